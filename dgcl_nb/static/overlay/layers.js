// What a panel can show: pairs of a key and its name.

export function layersOf(maps) {
  const ks = maps.num_neighbors;
  const hasMany = ks.length > 1;
  const mean = hasMany ? `density, mean of k = ${ks.join(", ")}` : `density, k = ${ks[0]}`;
  const scales = hasMany ? ks.map((k) => [`density_${k}`, `density, k = ${k}`]) : [];
  return [
    ["image", "image"],
    ["target", "target"],
    ["prediction", "prediction"],
    ["pseudo_label", "pseudo-label"],
    ["right_wrong", "right and wrong"],
    ["density", mean],
    ...scales,
    ["confidence", "confidence"],
    ["entropy", "entropy"]
  ];
}
