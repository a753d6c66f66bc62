// The data of the page: JSON, and inside it compressed arrays of joint counts.

const data = JSON.parse(document.getElementById("data").textContent);

// Groups of pictures (the references, then the views by yaw), each with its cells: bins[row][cell]
// for every check, in their order, and counts[cell].
// held[group][identity] is 1 + the cell of an identity's picture, 0 where it has none.
async function unpackArrays() {
  const packed = Uint8Array.from(atob(data.arrays), (sign) => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  let place = 0;
  const take = (size) => bytes.subarray(place, (place += size));
  const takeNumbers = (count) => {
    const planes = [take(count), take(count), take(count), take(count)];
    return Uint32Array.from({ length: count }, (_, i) =>
      planes[0][i] + planes[1][i] * 256 + planes[2][i] * 65536 + planes[3][i] * 16777216);
  };
  const groups = data.groups.map((group) => {
    const bins = group.checks.map(() => take(group.cells));
    const names = [...group.checks.map((check) => check.reason), "passed"];
    return { ...group, bins, names, counts: takeNumbers(group.cells) };
  });
  const held = groups.map(() => takeNumbers(data.identities.held));
  return { groups, held, second: take(data.identities.held) };
}
