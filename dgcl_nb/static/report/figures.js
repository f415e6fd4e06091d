// The figures of a page: each is drawn from the description that lies in it, in the inks of a theme.

// A figure's layout in a theme. Its width is left out: its place has that, and scrolls.
export function fitted(layout, template) {
  const result = { ...layout, template, autosize: true, paper_bgcolor: "rgba(0,0,0,0)" };
  result["font.family"] = "system-ui, sans-serif";
  delete result.width;
  return result;
}

// A promise that all figures are drawn, each with these tools in its bar.
export function drawFigures(plotly, figures, template, tools) {
  const config = { ...tools, responsive: true };
  const drawings = figures.map((figure) => {
    const { data, layout } = JSON.parse(figure.querySelector("script").textContent);
    return plotly.react(figure.querySelector(".canvas"), data, fitted(layout, template), config);
  });
  return Promise.all(drawings);
}

// A sentence in place of each figure.
export function sayWhyNot(figures, error) {
  const why = `This figure could not be drawn: ${error.message}. A browser of 2023 or later can.`;
  for (const figure of figures) figure.querySelector(".canvas").textContent = why;
}
