internal import Primitives
public import Topologies

/// The map as SVG: clusters on a ring, lines as thick as they are near, and the latencies as a table.
extension TopologyMap {
    public var svg: String {
        let count = clusters.count
        let cell = 46.0
        let table = 40 + cell * Double(count)
        let listTop = max(430.0, table + 110)
        var drawing = SVGDrawing(
            width: 480 + max(table, 330) + 30, height: listTop + 40 + 20 * Double(count + worst.count))
        drawing.text(name, x: 24, y: 34, size: 20)
        drawing.text(shortened(about, 110), x: 24, y: 56, style: "faint")
        drawRing(&drawing)
        drawTable(&drawing, left: 480, cell: cell)
        drawList(&drawing, top: listTop)
        return drawing.document
    }

    private var longest: Double { max(1e-9, latencyMilliseconds.joined().max() ?? 1) }

    private func drawRing(_ drawing: inout SVGDrawing) {
        let (centreX, centreY, ring) = (230.0, 250.0, 140.0)
        let places = clusters.indices.map { index in
            let angle = 2 * Double.pi * Double(index) / Double(clusters.count) - .pi / 2
            let shift = clusters.count == 1 ? 0 : ring
            return (
                x: centreX + shift * GreatCircle.sine(angle + .pi / 2), y: centreY + shift * GreatCircle.sine(angle)
            )
        }
        // Among many clusters each shows its nearest only: all lines together would be a web.
        let shown = clusters.count <= 6 ? clusters.count : 3
        for a in clusters.indices {
            let near = clusters.indices.filter { $0 != a }.sorted {
                (latencyMilliseconds[a][$0], $0) < (latencyMilliseconds[a][$1], $1)
            }.prefix(shown)
            for b in near {
                let share = latencyMilliseconds[a][b] / longest
                drawing.line(
                    x1: places[a].x, y1: places[a].y, x2: places[b].x, y2: places[b].y, style: "", width: 5 - 4 * share,
                    colour: heatColour(share))
            }
        }
        let most = clusters.map(\.gflops).max() ?? 1
        for (index, cluster) in clusters.enumerated() {
            let radius = 14 + 14 * (cluster.gflops / most).squareRoot()
            drawing.circle(x: places[index].x, y: places[index].y, radius: radius, style: "place")
            drawing.text(
                mark(index), x: places[index].x, y: places[index].y + 5, size: 14, anchor: .middle, style: "onfill")
        }
    }

    private func drawTable(_ drawing: inout SVGDrawing, left: Double, cell: Double) {
        drawing.text("one way, ms", x: left, y: 84, style: "faint")
        for (a, row) in latencyMilliseconds.enumerated() {
            let at = 30 + cell * (Double(a) + 0.5)
            drawing.text(mark(a), x: left + at, y: 106, anchor: .middle)
            drawing.text(mark(a), x: left + 12, y: 112 + cell * (Double(a) + 0.6), anchor: .middle)
            for (b, value) in row.enumerated() {
                let (x, y) = (left + 30 + cell * Double(b), 112 + cell * Double(a))
                let text = self.cell(a, b, value)
                if text == "–" {
                    drawing.rectangle(x: x, y: y, width: cell - 2, height: cell - 2, style: "idle")
                    continue
                }
                drawing.rectangle(x: x, y: y, width: cell - 2, height: cell - 2, fill: heatColour(value / longest))
                drawing.text(text, x: x + cell / 2 - 1, y: y + cell * 0.57, anchor: .middle, style: "onfill")
            }
        }
    }

    private func drawList(_ drawing: inout SVGDrawing, top: Double) {
        var y = top
        for (index, cluster) in clusters.enumerated() {
            drawing.text(mark(index), x: 24, y: y, size: 13)
            drawing.text(shortened(cluster.name, 32), x: 48, y: y, size: 13)
            drawing.text(
                "\(cluster.peers.count) peer\(cluster.peers.count == 1 ? "" : "s")", x: 360, y: y, size: 13,
                anchor: .end)
            drawing.text("\(fixed(cluster.gflops, 0)) GFLOP/s", x: 490, y: y, size: 13, anchor: .end)
            drawing.text(size(cluster.memoryMebibytes), x: 590, y: y, size: 13, anchor: .end)
            drawing.text("up \(fixed(cluster.upMbps, 0)) Mbit/s", x: 740, y: y, size: 13, anchor: .end)
            y += 20
        }
        for link in worst {
            let loss = link.lossPercent > 0 ? ", \(fixed(link.lossPercent, 2)) % lost" : ""
            drawing.text(
                "worst: \(link.from) → \(link.to), \(fixed(link.latencyMilliseconds, 1)) ms, \(fixed(link.mbps, 1)) Mbit/s\(loss)",
                x: 24, y: y + 8, size: 13, style: "faint")
            y += 20
        }
    }
    private func shortened(_ text: String, _ most: Int) -> String {
        text.count > most ? String(text.prefix(most - 1)) + "…" : text
    }
}
