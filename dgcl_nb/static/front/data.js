// Bytes of the model as typed arrays.

// `data` is a DataView or undefined. A typed array must start at a multiple of its item's size:
// where the bytes do not, they are copied once.
export function typed(data, Type) {
  if (!data) return new Type(0);
  const size = Type.BYTES_PER_ELEMENT;
  const count = Math.floor(data.byteLength / size);
  if (data.byteOffset % size === 0) return new Type(data.buffer, data.byteOffset, count);
  const end = data.byteOffset + count * size;
  return new Type(data.buffer.slice(data.byteOffset, end));
}

// A value of the model, for instance view(model, "density", Float32Array).
export function view(model, name, Type) {
  return typed(model.get(name), Type);
}
