// Texts of plots are drawn, and follow no style sheet: they take the page's ink, light or dark, as the system is.
const BLACK = "#000000", WHITE = "#e6ebf0", GREY = "#8a94a0"

function dress() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches
  const ink = getComputedStyle(document.body).color
  for (const document of Bokeh.documents)
    for (const model of document._all_models.values()) {
      const change = {}
      for (const {attr} of model)
        if (/^(axis_label|major_label)_text_color$/.test(attr)) change[attr] = ink
      if (/Axis$/.test(model.type)) Object.assign(change, {axis_line_color: GREY, major_tick_line_color: GREY, minor_tick_line_color: null})
      if (model.type === "Grid") Object.assign(change, {grid_line_color: GREY, grid_line_alpha: 0.3})
      if (model.type === "Toolbar") Object.assign(change, {logo: null, autohide: true})
      if (model.type === "Figure") Object.assign(change, {background_fill_color: null, border_fill_color: null})
      if (Array.isArray(model.data?.color) || ArrayBuffer.isView(model.data?.color)) {
        const [from, to] = dark ? [BLACK, WHITE] : [WHITE, BLACK]
        change.data = {...model.data, color: Array.from(model.data.color, color => color === from ? to : color)}
      }
      if (Object.keys(change).length) model.setv(change)
    }
}

let asked = 0
function whenDrawn() {
  if (Bokeh.documents.length) dress()
  else if (asked++ < 100) setTimeout(whenDrawn, 50)
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress)
if (document.querySelector("[data-root-id]")) whenDrawn()
