const contents = unpacked(document.getElementById("data").textContent);
const state = initialState(contents);
readAddress(contents, state);
const refreshTable = buildTable(contents, state, buildCard(contents), changed);
const pictures = [buildCurves(contents), buildCorrelation(contents)];

function changed() {
  writeAddress(contents, state, initialState(contents));
  refreshTable();
}

buildFilters(contents, state, changed);
refreshTable();
document.getElementById("legend").textContent = contents.legend;
let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth === width) return; // a phone's address bar changes the height alone
  width = window.innerWidth;
  refreshTable();
  for (const draw of pictures) draw();
});
