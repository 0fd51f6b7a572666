internal import Primitives

/// A drawing as SVG text: plain shapes with classes, readable on light and on dark ground.
package struct SVGDrawing {
    /// In pixels.
    package let width: Double
    package let height: Double
    private var body = ""

    package init(width: Double, height: Double) {
        self.width = width
        self.height = height
    }

    package enum Anchor: String { case start, middle, end }

    package mutating func text(
        _ text: String, x: Double, y: Double, size: Double = 12, anchor: Anchor = .start, style: String = "ink"
    ) {
        body +=
            "<text class=\"\(style)\" x=\"\(n(x))\" y=\"\(n(y))\" font-size=\"\(n(size))\" text-anchor=\"\(anchor.rawValue)\">"
            + escaped(text) + "</text>\n"
    }
    /// - Parameter fill: a colour, or nil for the class's own.
    package mutating func rectangle(
        x: Double, y: Double, width: Double, height: Double, style: String = "", fill: String? = nil,
        title: String? = nil
    ) {
        let paint = fill.map { " fill=\"\($0)\"" } ?? ""
        body +=
            "<rect class=\"\(style)\" x=\"\(n(x))\" y=\"\(n(y))\" width=\"\(n(max(0, width)))\" height=\"\(n(height))\"\(paint)>"
            + (title.map { "<title>\(escaped($0))</title>" } ?? "") + "</rect>\n"
    }
    package mutating func circle(x: Double, y: Double, radius: Double, style: String) {
        body += "<circle class=\"\(style)\" cx=\"\(n(x))\" cy=\"\(n(y))\" r=\"\(n(radius))\"/>\n"
    }
    package mutating func line(
        x1: Double, y1: Double, x2: Double, y2: Double, style: String, width: Double = 1, colour: String? = nil
    ) {
        let paint = colour.map { " stroke=\"\($0)\"" } ?? ""
        body +=
            "<line class=\"\(style)\" x1=\"\(n(x1))\" y1=\"\(n(y1))\" x2=\"\(n(x2))\" y2=\"\(n(y2))\" stroke-width=\"\(n(width))\"\(paint)/>\n"
    }
    package mutating func polyline(_ points: [(x: Double, y: Double)], style: String) {
        body +=
            "<polyline class=\"\(style)\" points=\"\(points.map { "\(n($0.x)),\(n($0.y))" }.joined(separator: " "))\"/>\n"
    }

    package var document: String {
        """
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(n(width)) \(n(height))" width="\(n(width))" \
        height="\(n(height))" font-family="system-ui, sans-serif">
        <style>
        .ground { fill: #ffffff } .ink { fill: #1d2733 } .faint { fill: #5c6b7a } .onfill { fill: #10202e }
        .axis { stroke: #8795a3 } .grid { stroke: #dde3e8 } .curve { fill: none; stroke: #1769aa; stroke-width: 2 }
        .dot { fill: #1769aa } .mark { fill: #c2410c } .place { fill: #8fbfe6; stroke: #1769aa } .idle { fill: #eef1f4 }
        .forward { fill: #5aa2dc } .backward { fill: #f0a35e } .update { fill: #7bb661 } .rule { stroke: #c2410c; stroke-dasharray: 4 3 }
        @media (prefers-color-scheme: dark) {
        .ground { fill: #12181f } .ink { fill: #e6ebf0 } .faint { fill: #9aa8b5 } .axis { stroke: #6b7986 } .grid { stroke: #2a343e }
        .curve { stroke: #6cb4f0 } .dot { fill: #6cb4f0 } .mark { fill: #fb923c } .idle { fill: #222b34 }
        }
        </style>
        <rect class="ground" width="\(n(width))" height="\(n(height))"/>
        \(body)</svg>

        """
    }

    private func n(_ value: Double) -> String { value == value.rounded() ? fixed(value, 0) : fixed(value, 1) }
    private func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }
}

/// From green over yellow to red, light enough for dark ink: 0 is good, 1 is bad.
package func heatColour(_ share: Double) -> String {
    let share = min(1, max(0, share))
    let (red, green) = share < 0.5 ? (150 + 180 * share, 215.0) : (240, 215 - 190 * (share - 0.5))
    return "rgb(\(Int(red)),\(Int(green)),130)"
}
