public import Planning
internal import Primitives

/// A sweep for a terminal and as SVG.
extension Sweep {
    private var title: String {
        switch axis {
        case .batch: "batch, tokens"
        case .latency: "latency, times what it is"
        case .bandwidth: "bandwidth, times what it is"
        case .peers: "peers, the fastest first"
        case .innerSteps: "inner steps, H"
        }
    }
    private var most: Double { max(1e-9, points.compactMap(\.seconds).max() ?? 1) }

    /// A table with bars: `█` is time to loss, `▒` in it the latency floor. No longer than `columns`.
    public func text(columns: Int) -> String {
        let width = max(8, points.map(\.label.count).max() ?? 0)
        var lines = ["time to loss, s, against \(title); ▒ is the latency floor"]
        let room = max(10, columns - width - 34)
        for point in points {
            let label = String(repeating: " ", count: width - point.label.count) + point.label
            guard let seconds = point.seconds else {
                let line = "\(label)  nothing fits: \(point.reason ?? "")"
                lines.append(line.count > columns ? String(line.prefix(columns - 1)) + "…" : line)
                continue
            }
            let bar = max(1, Int((Double(room) * seconds / most).rounded()))
            let floor = min(bar, Int((Double(room) * (point.latencyFloorSeconds ?? 0) / most).rounded()))
            let number = fixed(seconds, 1)
            let first = point.binding?.ranked.first.map { $0.name } ?? ""
            lines.append(
                "\(label) \(String(repeating: " ", count: max(0, 10 - number.count)))\(number) "
                    + "\(point.pipelines ?? 0)p \(first)\(point.isOverBudget ? " !" : "")".padded(to: 16)
                    + String(repeating: "▒", count: floor)
                    + String(repeating: "█", count: bar - floor))
        }
        return (lines + [""] + findings.flatMap { wrapped($0, columns) }).joined(separator: "\n") + "\n"
    }

    private func wrapped(_ text: String, _ width: Int) -> [String] {
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ") {
            if !line.isEmpty, line.count + 1 + word.count > width {
                lines.append(line)
                line = " "
            }
            line += (line.isEmpty ? "" : " ") + word
        }
        return lines + [line]
    }

    /// The curve with its floor; points are evenly apart, because most axes double.
    public var svg: String {
        let (left, top, width, height) = (80.0, 56.0, 640.0, 300.0)
        let notes = findings.flatMap { wrapped($0, 104) }
        var drawing = SVGDrawing(width: 760, height: top + height + 76 + 19 * Double(notes.count))
        drawing.text("time to loss, s", x: 24, y: 32, size: 16)
        let scale = height / (most * 1.08)
        let step = SweepScale.step(most)
        var tick = 0.0
        while tick <= most * 1.08 {
            let y = top + height - tick * scale
            drawing.line(x1: left, y1: y, x2: left + width, y2: y, style: "grid")
            drawing.text(SweepScale.label(tick, step), x: left - 8, y: y + 4, anchor: .end, style: "faint")
            tick += step
        }
        func x(_ index: Int) -> Double {
            left + width * (points.count == 1 ? 0.5 : 0.04 + 0.92 * Double(index) / Double(points.count - 1))
        }
        func y(_ seconds: Double) -> Double { top + height - seconds * scale }
        for (index, point) in points.enumerated() {
            drawing.text(point.label, x: x(index), y: top + height + 20, anchor: .middle, style: "faint")
        }
        drawing.text(title, x: left + width / 2, y: top + height + 42, size: 13, anchor: .middle)
        var (curve, floor): ([(x: Double, y: Double)], [(x: Double, y: Double)]) = ([], [])
        for (index, point) in points.enumerated() {
            guard let seconds = point.seconds else {
                drawing.text("none fits", x: x(index), y: top + height - 8, anchor: .middle, style: "mark")
                continue
            }
            curve.append((x(index), y(seconds)))
            floor.append((x(index), y(point.latencyFloorSeconds ?? 0)))
        }
        for (a, b) in zip(floor, floor.dropFirst()) {
            drawing.line(x1: a.x, y1: a.y, x2: b.x, y2: b.y, style: "rule", width: 1.5)
        }
        drawing.polyline(curve, style: "curve")
        let least = points.filter { !$0.isOverBudget }.compactMap(\.seconds).min()
        for (index, point) in points.enumerated() {
            guard let seconds = point.seconds else { continue }
            drawing.circle(
                x: x(index), y: y(seconds), radius: seconds == least ? 5.5 : 3.5,
                style: seconds == least ? "mark" : "dot")
            if point.isOverBudget {
                drawing.text("over budget", x: x(index), y: y(seconds) - 10, size: 10, anchor: .middle, style: "faint")
            }
        }
        drawing.line(x1: left, y1: top + height, x2: left + width, y2: top + height, style: "axis")
        drawing.line(x1: 560, y1: 28, x2: 590, y2: 28, style: "rule", width: 1.5)
        drawing.text("latency floor", x: 598, y: 32)
        for (index, note) in notes.enumerated() {
            drawing.text(note, x: 24, y: top + height + 72 + 19 * Double(index), size: 13)
        }
        return drawing.document
    }
}

/// Round numbers along an axis.
enum SweepScale {
    /// 1, 2 or 5 times a power of ten, so that there are four to ten of them.
    static func step(_ most: Double) -> Double {
        var power = 1e-6
        while power * 10 * 4 <= most { power *= 10 }
        for factor in [1.0, 2, 5, 10] where most / (power * factor) <= 8 { return power * factor }
        return power * 10
    }
    static func label(_ value: Double, _ step: Double) -> String {
        fixed(value, step >= 1 ? 0 : step >= 0.1 ? 1 : step >= 0.01 ? 2 : 4)
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String {
        count >= width ? self : self + String(repeating: " ", count: width - count)
    }
}
