import {createViewer} from "../_js/vendor/3Dmol.es6-min.js"
// The line above must stay the first: where no server is, the library's text takes its place (molecule.py).

// 3Dmol's camera: how far it is from the origin, and the tangent of half its angle.
const CAMERA = 150, TANGENT = Math.tan(Math.PI / 9)
const TRANSLUCENT = 0.8 // thick arrows
const NARROW = 180 // px, below which molecules stand below each other

const STYLE = `
.molecules { color: var(--mui-palette-text-primary, inherit); font-size: 15px; line-height: 1.4;
  transition: color 1ms } /* it ends when light turns to dark */
.views { display: grid; gap: 8px }
figure { margin: 0; min-width: 0 }
figcaption { min-height: 2.8em; text-align: center }
figcaption b { display: block; font-weight: 600 }
.stage { position: relative; height: 300px; border-radius: 8px; cursor: grab; outline-offset: -2px }
.stage:active { cursor: grabbing }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; align-items: center; justify-content: center; margin-top: 4px }
.key span { display: inline-flex; align-items: center; gap: 6px }
.key i { display: inline-block; border-radius: 50%; width: 12px; height: 12px; border: 1px solid #3e4c59 }
.bar::before { content: ""; box-sizing: border-box; width: var(--bar); height: 9px; border: solid currentColor;
  border-width: 0 1.5px 1.5px }
.hint { opacity: .75; text-align: center; font-size: 14px }
.still { display: none; text-align: center }
.flat .still { display: block }
.flat .live { display: none }
@media print { .still { display: block } .live, .hint { display: none } }
`

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties)
  node.append(...children)
  return node
}

function canDraw() {
  try {
    const context = new OffscreenCanvas(1, 1).getContext("webgl2")
    context.getExtension("WEBGL_lose_context")?.loseContext()
    return true
  } catch {
    return false
  }
}

const point = ([x, y, z]) => ({x, y, z})

// What is behind an element: translucent arrows want to be mixed with it in the canvas, not below it.
function ground(node) {
  for (let at = node; at; at = at.assignedSlot ?? at.parentElement ?? at.getRootNode().host) {
    const color = getComputedStyle(at).backgroundColor
    const [red, green, blue, alpha = 1] = color.match(/[\d.]+/g).map(Number)
    if (alpha > 0.99) {
      return (red << 16) + (green << 8) + blue
    }
  }
  return 0xffffff
}

// Arrows without a colour are as dark, or as light, as that leaves them legible.
function ink(color) {
  const [red, green, blue] = [color >> 16, color >> 8 & 255, color & 255]
  return 0.3 * red + 0.59 * green + 0.11 * blue > 128 ? "#55606b" : "#eef2f5"
}

// One molecule: a title, a note, and a viewer, made when its place on the page has a size.
class View {
  constructor(reset) {
    this.title = make("b")
    this.note = make("span")
    this.stage = make("div", {className: "stage", tabIndex: 0, role: "img"})
    this.figure = make("figure", {}, make("figcaption", {}, this.title, this.note), this.stage)
    this.viewer = createViewer(this.stage, {disableFog: true, orthographic: true, antialias: true})
    // A wheel scrolls the page, as over everything else; with Ctrl, or two fingers, it zooms.
    this.stage.addEventListener("wheel", event => event.ctrlKey || event.stopPropagation(), {capture: true})
    this.stage.addEventListener("dblclick", reset)
    this.stage.addEventListener("keydown", event => {
      const turn = {ArrowLeft: [-15, "y"], ArrowRight: [15, "y"], ArrowUp: [-15, "x"], ArrowDown: [15, "x"]}[event.key]
      if (turn) {
        event.preventDefault()
        this.viewer.rotate(...turn)
      }
    })
  }

  show(molecule, stick) {
    this.title.textContent = molecule.title
    this.note.textContent = molecule.note
    this.stage.setAttribute("aria-label", `${molecule.title} ${molecule.note}: a molecule; arrow keys turn it`)
    this.viewer.removeAllModels()
    const atoms = molecule.positions.map((position, k) => ({
      ...point(position), elem: molecule.symbols[k], serial: k, index: k, bonds: [], bondOrder: [],
      style: {
        sphere: {radius: molecule.radii[k], color: molecule.colors[k]},
        stick: {radius: stick, color: molecule.colors[k]},
      },
    }))
    for (const [a, b] of molecule.bonds) {
      for (const [one, other] of [[a, b], [b, a]]) {
        atoms[one].bonds.push(other)
        atoms[one].bondOrder.push(1)
      }
    }
    this.viewer.addModel().addAtoms(atoms)
    this.molecule = molecule
    this.paint()
  }

  // What depends on whether the page is light or dark: the ground, and arrows.
  paint() {
    const behind = ground(this.stage)
    this.viewer.setBackgroundColor(behind, 1)
    this.viewer.removeAllShapes()
    for (const {color, thick, radius, ends} of this.molecule.arrows) {
      const shape = this.viewer.addShape({color: color || ink(behind), opacity: thick ? TRANSLUCENT : 1})
      ends.forEach((end, k) => {
        const start = this.molecule.positions[k], length = Math.hypot(...end.map((x, i) => x - start[i]))
        if (length > 0) {
          const mid = Math.max(1 - 5 * radius / length, 0.4) // where the head begins
          shape.addArrow({start: point(start), end: point(end), radius, radiusRatio: 2, mid})
        }
      })
    }
    this.viewer.render()
  }
}

export function render({model, el}) {
  const views = make("div", {className: "views live"}), key = make("div", {className: "key live"})
  const hint = make("div", {className: "hint live"}, "Drag to turn, Ctrl + wheel to zoom, double click to reset")
  const still = make("div", {className: "still"}), message = make("p")
  const root = make("div", {className: "molecules"}, message, views, key, hint, still)
  el.append(make("style", {textContent: STYLE}), root)
  const able = canDraw()
  root.classList.toggle("flat", !able)
  const pool = [] // viewers are kept: 3Dmol listens on the page's body for ever

  const shown = () => pool.slice(0, model.drawing.molecules?.length ?? 0)

  function measure() {
    const [first] = shown()
    if (first) {
      const half = (CAMERA - first.viewer.getView()[3]) * TANGENT // of its width, in Angstrom
      root.style.setProperty("--bar", `${model.drawing.bar.length * first.stage.clientWidth / 2 / half}px`)
    }
  }

  function fit(turned) {
    for (const {viewer, stage} of shown()) {
      const aspect = stage.clientWidth / stage.clientHeight || 1
      const rotation = turned ? viewer.getView().slice(4, 8) : [0, 0, 0, 1]
      const half = 1.04 * model.drawing.reach * Math.max(1, aspect)
      viewer.setView([0, 0, 0, CAMERA - half / TANGENT, ...rotation], true)
    }
    measure()
  }

  function arrange() {
    const count = Math.max(1, shown().length)
    let across = Math.max(1, Math.min(count, Math.floor(root.clientWidth / NARROW)))
    across = Math.ceil(count / Math.ceil(count / across)) // four: two below two, not one below three
    views.style.gridTemplateColumns = `repeat(${across}, minmax(0, 1fr))`
  }

  function keyed({legend, bar, cut}) {
    const arrows = legend.arrows.map(({name, color, thick}) => {
      const line = make("span", {}, name)
      const height = thick ? 8 : 4
      line.insertAdjacentHTML("afterbegin",
        `<svg width="30" height="14"><path d="M0 7h20" stroke-width="${height}"/><path d="M18 0l12 7-12 7z" stroke="none"/></svg>`)
      const drawn = line.firstChild
      drawn.style.cssText = `stroke:${color || "currentColor"};fill:${color || "currentColor"};opacity:${thick ? TRANSLUCENT : 1}`
      return line
    })
    const elements = legend.elements.map(({name, color}) => {
      const dot = make("i")
      dot.style.background = color
      return make("span", {}, dot, name)
    })
    key.replaceChildren(...arrows, ...(arrows.length ? [make("span", {className: "bar"}, bar.text)] : []), ...elements,
      ...(cut ? [make("span", {}, cut)] : []))
  }

  function draw() {
    const {molecules = [], message: said = "", stick} = model.drawing
    message.textContent = said
    message.hidden = !said
    still.innerHTML = model.picture
    views.hidden = key.hidden = hint.hidden = !molecules.length
    if (!able || !molecules.length) {
      return
    }
    while (pool.length < molecules.length) {
      const view = new View(() => fit(false))
      for (const other of pool) {
        other.viewer.linkViewer(view.viewer)
        view.viewer.linkViewer(other.viewer)
      }
      pool.push(view)
      view.viewer.setViewChangeCallback(measure)
    }
    const before = views.children.length
    views.replaceChildren(...shown().map(view => view.figure))
    arrange()
    keyed(model.drawing)
    shown().forEach((view, k) => view.show(molecules[k], stick))
    fit(before > 0)
  }

  model.on(["drawing", "picture"], draw)
  const watcher = new ResizeObserver(() => {
    arrange()
    shown().forEach(({viewer}) => viewer.resize())
    fit(true)
  })
  watcher.observe(root)
  root.addEventListener("transitionend", () => shown().forEach(view => view.paint()))
  model.on("remove", () => watcher.disconnect())
  draw()
}
