// A line at a training step through all panels of a figure of curves.

const AXIS = /^xaxis(\d*)$/;

// The shapes of a plotly layout, and the line in each of its panels; a place that is left empty gets none.
export function withStepLine(layout, step, colour) {
  const axes = Object.keys(layout).filter((name) => AXIS.test(name) && layout[name].visible !== false);
  const lines = axes.map((name) => ({
    type: "line",
    xref: name.replace("axis", ""),
    yref: `${layout[name].anchor || "y"} domain`,
    x0: step,
    x1: step,
    y0: 0,
    y1: 1,
    line: { color: colour, width: 1.5, dash: "dot" }
  }));
  return [...(layout.shapes || []), ...lines];
}
