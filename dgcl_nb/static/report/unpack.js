// Code that travels compressed inside the page.

// `text` is base64 of gzip. Every browser since 2023 unpacks it by itself, with no library.
export async function unpack(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}
