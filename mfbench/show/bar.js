// The navigation keeps the query, so that every page shows the same choice. Light or dark and the size of texts are this
// browser's alone: kept there, and changed without the server.
const LECTURE = 22, USUAL = 16 // px of texts
const NARROW = 600 // px: here the choices lie over the page

function pageOf(view) {
  return view.model.document.roots().find(root => root.class_name === "Page")
}

// Texts of figures are drawn, and follow no style sheet: their sizes are those that were given, in proportion to the
// page's. Sizes in ems are the theme's.
const given = new WeakMap()
const PIXELS = {px: 1, pt: 4 / 3, em: USUAL}

function models() {
  return Bokeh.documents.flatMap(document => [...document._all_models.values()])
}

function dressFigures(base) {
  for (const model of models()) {
    const sizes = {}
    for (const property of model) {
      if (!property.attr.endsWith("text_font_size")) continue
      const size = model[property.attr]
      if (typeof size !== "string") continue
      const before = given.get(model) ?? {}
      const [, number, unit] = size.match(/^([\d.]+)(px|pt|em)$/) ?? []
      if (unit === undefined) continue
      if (before[property.attr]?.set !== size) before[property.attr] = {usual: number * PIXELS[unit]}
      const set = `${Math.round(before[property.attr].usual * base / USUAL * 10) / 10}px`
      if (set !== size) sizes[property.attr] = set
      before[property.attr].set = set
      given.set(model, before)
    }
    if (Object.keys(sizes).length) model.setv(sizes, {sync: false})
  }
}

function layOut() {
  for (const model of models())
    if (model.type === "Figure") Bokeh.index.find_one_by_id(model.id)?.invalidate_layout()
}

export function render({model, view}) {
  const nav = document.createElement("nav")
  nav.setAttribute("aria-label", "Pages")
  const links = document.createElement("div")
  links.className = "links"
  for (const {title, href} of model.pages) {
    const link = document.createElement("a")
    link.textContent = title
    link.href = href + window.location.search
    if (href === model.current) link.setAttribute("aria-current", "page")
    const current = () => { link.href = href + window.location.search }
    for (const event of ["pointerdown", "pointerenter", "focus", "click"]) link.addEventListener(event, current)
    links.append(link)
  }
  const lecture = document.createElement("button")
  lecture.type = "button"
  lecture.textContent = "Lecture"
  lecture.title = "Large texts, and no choices at the left"
  nav.append(links, lecture)

  const page = pageOf(view)
  if (page === undefined) return nav
  const system = window.matchMedia("(prefers-color-scheme: dark)")
  const wanted = () => localStorage.getItem("mfbench-dark") ?? String(system.matches)
  const dress = () => {
    const dark = wanted() === "true"
    document.documentElement.classList.toggle("mfb-light", !dark)
    if (page.data.dark_theme !== dark) page.data.dark_theme = dark
  }
  dress()
  system.addEventListener("change", dress)
  page.data.properties.dark_theme.change.connect(() => {
    const dark = page.data.dark_theme
    document.documentElement.classList.toggle("mfb-light", !dark)
    if (String(dark) === wanted()) return
    if (dark === system.matches) localStorage.removeItem("mfbench-dark")
    else localStorage.setItem("mfbench-dark", String(dark))
    settle(300)
  })

  let waiting
  const settle = (wait = 30) => {
    clearTimeout(waiting)
    waiting = setTimeout(() => dressFigures(lecture.getAttribute("aria-pressed") === "true" ? LECTURE : USUAL), wait)
  }
  view.model.document.on_change(() => settle())
  page.data.properties.sidebar_open.change.connect(() => {
    for (const wait of [350, 1000]) setTimeout(layOut, wait) // the sidebar has slid by then
  })
  const lecturing = on => {
    lecture.setAttribute("aria-pressed", String(on))
    document.documentElement.style.setProperty("--mfb-text", `${on ? LECTURE : USUAL}px`)
    sessionStorage.setItem("mfbench-lecture", String(on))
    settle()
  }
  lecture.addEventListener("click", () => {
    const on = lecture.getAttribute("aria-pressed") !== "true"
    page.data.sidebar_open = !on
    lecturing(on)
  })
  const before = sessionStorage.getItem("mfbench-lecture") === "true"
  if (before || window.innerWidth < NARROW) page.data.sidebar_open = false
  lecturing(before)
  for (const wait of [300, 1200]) setTimeout(settle, wait) // figures are there by then, and the theme has dressed them
  return nav
}
