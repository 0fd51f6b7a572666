internal import Planning
internal import Primitives
internal import Topologies

/// The time line of a plan as SVG: one step of each pipeline, a row for each peer.
extension PlanReport {
    public var ganttSVG: String {
        let line = TimeLine(planned.plan, topology: topology, job: job)
        let (recorded, end) = (line.pipelines, max(1e-9, line.end))
        let rows = planned.plan.pipelines.reduce(0) { $0 + $1.stages.count }
        let (left, top, width, row) = (170.0, 84.0, 800.0, 24.0)
        let gaps = 14.0 * Double(planned.plan.pipelines.count)
        var drawing = SVGDrawing(width: left + width + 40, height: top + row * Double(rows) + gaps + 60)
        drawing.text("\(job.name) on \(topology.name): one step, \(fixed(end, 3)) s", x: 24, y: 32, size: 18)
        legend(&drawing)
        let scale = width / end
        var y = top
        for (p, pipeline) in planned.plan.pipelines.enumerated() {
            for (s, stage) in pipeline.stages.enumerated() {
                let name = stage.peer.count > 14 ? String(stage.peer.prefix(13)) + "…" : stage.peer
                drawing.text(name, x: left - 62, y: y + 15, size: 13, anchor: .end)
                drawing.text(
                    "\(stage.units.lowerBound)…\(stage.units.upperBound - 1)", x: left - 8, y: y + 15, size: 11,
                    anchor: .end,
                    style: "faint")
                drawing.rectangle(x: left, y: y, width: width, height: row - 4, style: "idle")
                for span in recorded[p] where span.stage == s { paint(span, &drawing, left, y, row - 4, scale) }
                y += row
            }
            y += 14
        }
        let step = SweepScale.step(end)
        var tick = 0.0
        while tick <= end * 1.0001 {
            let x = left + tick * scale
            drawing.line(x1: x, y1: y - 8, x2: x, y2: y - 2, style: "axis")
            drawing.text(SweepScale.label(tick, step), x: x, y: y + 14, size: 11, anchor: .middle, style: "faint")
            tick += step
        }
        drawing.text("seconds", x: left + width, y: y + 32, size: 11, anchor: .end, style: "faint")
        return drawing.document
    }

    private func legend(_ drawing: inout SVGDrawing) {
        var x = 24.0
        for (style, word) in [
            ("forward", "forward"), ("backward", "backward"), ("update", "optimizer"), ("idle", "idle"),
        ] {
            drawing.rectangle(x: x, y: 48, width: 14, height: 14, style: style)
            drawing.text(word, x: x + 20, y: 60, size: 12)
            x += 100
        }
        drawing.text("peer, its units, and the micro-batches it works on", x: x + 10, y: 60, size: 12, style: "faint")
    }

    private func paint(
        _ span: StageSpan, _ drawing: inout SVGDrawing, _ left: Double, _ y: Double, _ height: Double, _ scale: Double
    ) {
        let (style, word) =
            switch span.kind {
            case .forward: ("forward", "forward")
            case .backward: ("backward", "backward")
            case .head: ("backward", "head for the last stage")
            case .validate: ("update", "validation")
            case .update: ("update", "optimizer step")
            }
        let (x, width) = (left + span.start * scale, (span.end - span.start) * scale)
        drawing.rectangle(
            x: x, y: y, width: max(0.5, width - 0.6), height: height, style: style,
            title: "\(word) \(span.microBatch), \(fixed(span.start, 3))–\(fixed(span.end, 3)) s")
        if width >= 18, span.kind != .update {
            drawing.text("\(span.microBatch)", x: x + width / 2, y: y + 14, size: 10, anchor: .middle, style: "onfill")
        }
    }
}
