/// A topology's time line at another pace, or from another moment on.
extension Topology {
    /// Moments in seconds become `scale` times themselves, and `offset` seconds later; so do the lengths of cuts, without the offset. Moments
    /// that are a share of the job's steps stay.
    ///
    /// What comes to lie before second 0 has happened when the run begins: who is gone by then is no longer in the pool, who has come is in it
    /// from the start, a cut has the rest of its length, and of changes of speed or rate the last one counts from second 0.
    public func retimed(scale: Double, offset: Double) -> Topology {
        var out = self
        guard scale != 1 || offset != 0 else { return out }
        var past: [Fault] = []
        out.faults = []
        for fault in faults {
            var fault = fault
            guard case .seconds(let seconds) = fault.at else {
                out.faults.append(fault)
                continue
            }
            let moment = seconds * scale + offset
            fault.at = .seconds(moment)
            if case .cut(let length) = fault.kind { fault.kind = .cut(seconds: length * scale) }
            if moment < 0 { past.append(fault) } else { out.faults.append(fault) }
        }
        guard !past.isEmpty else { return out }
        let late = lateJoiners
        let (gone, begun) = Topology.outcome(of: past, late)
        // Who comes (again) later stays in the pool, and is let in then.
        let returning = out.lateJoiners
        for name in hosts.map(\.name) where late.contains(name) && !gone.contains(name) && returning.contains(name) {
            if past.contains(where: { $0.kind == .join && $0.host == name }) {
                out.faults.append(Fault(.join, at: .seconds(0), host: name))
            }
        }
        out.faults += begun
        let left = gone.subtracting(returning)
        return out.keeping { !left.contains(out.hosts[$0].name) }
    }

    /// Who is gone after these events, and what of them still goes on at second 0.
    private static func outcome(of past: [Fault], _ late: Set<String>) -> (gone: Set<String>, begun: [Fault]) {
        func time(_ fault: Fault) -> Double { if case .seconds(let seconds) = fault.at { seconds } else { 0 } }
        var gone: Set<String> = []
        var begun: [Fault] = []
        let order = past.indices.sorted { (time(past[$0]), $0) < (time(past[$1]), $1) }
        for fault in order.map({ past[$0] }) {
            var now = fault
            now.at = .seconds(0)
            switch fault.kind {
            case .kill, .leave: gone.insert(fault.host)
            case .join: gone.remove(fault.host)
            case .renumber, .remap: break
            case .slow: begun.append(now)
            case .throttle:
                // Of its lines' own rate, not of the rate before.
                begun.removeAll { if case .throttle = $0.kind { $0.host == fault.host } else { false } }
                begun.append(now)
            case .cut(let length):
                let rest = length + time(fault)
                guard rest > 0 else { continue }
                now.kind = .cut(seconds: rest)
                begun.append(now)
            }
        }
        return (gone, begun.filter { !gone.contains($0.host) })
    }
}
