import Planning
public import Primitives
import Topologies

/// Worlds in which several machines carry the record: the same pools and troubles, and others that strike electors.
extension StormScript {
    /// - Parameter electors: 3, 4 or 5; nil: as many as what is seen of the pool asks for.
    public init(seed: UInt64, electors: Int?) {
        var draw = SeededGenerator(seed: seed, stream: 0x656c_6563_74)
        let base = StormScript(seed: seed)
        var job = base.job
        // Who fails then is whoever leads; what comes of it is asked of one launcher.
        if base.diverges { job = job.calmed() }
        job.electors.count = electors.map { .fixed($0) } ?? .auto
        // An elector's disk that says that things are durable which are not breaks its elector's word: no such elector can be trusted. The launcher's
        // owner does not go on with a log that is damaged. Of three that know what is certified, one may have lost its disk, or sign two logs; where both
        // happen two contradicting logs have a majority each (four are for members who are not trusted).
        let desk = base.topology.hosts.firstIndex { $0.role == .coordinator }!
        let own = Self.ofElectors(base.topology, &draw)
        let isFewWithALiar = (electors ?? 3) == 3 && own.contains { $0.kind == .lies(.signsTwice) }
        var possible: [Trouble] = []
        for trouble in base.troubles {
            if trouble.kind == .disk(.lies) || (isFewWithALiar && trouble.kind == .emptied) { continue }
            if trouble.kind == .flippedBit, trouble.host == desk || possible.contains(where: { $0.kind == .flippedBit })
            {
                continue
            }
            possible.append(trouble)
        }
        self.init(
            seed: seed, topology: base.topology, job: job, corpus: base.corpus, realArithmetic: base.realArithmetic,
            troubles: own + possible.prefix(5))
        isDrawnForElectors = true
    }

    /// Each kind in a third of the worlds.
    private static func ofElectors(_ topology: Topology, _ draw: inout SeededGenerator) -> [Trouble] {
        let hosts = topology.hosts.indices.filter { topology.hosts[$0].role != .bootstrap }
        var out: [Trouble] = []
        func add(_ kind: Trouble.Kind, _ length: Double, to host: Int? = nil) {
            let host = host ?? hosts[draw.below(hosts.count)]
            let from = 5 + season * draw.uniform()
            out.append(Trouble(kind, host: host, name: topology.hosts[host].name, from: from, until: from + length))
        }
        if draw.below(3) == 0 {
            // One after the other: a storm of elections.
            for _ in 0..<1 + draw.below(4) { add(.dethroned, 0.5 + 20 * draw.uniform()) }
        }
        if draw.below(3) == 0 {
            let to = hosts[draw.below(hosts.count)]
            let from = hosts[draw.below(hosts.count)]
            if from != to { add(.oneWay(from: from), 5 + 120 * draw.uniform(), to: to) }
        }
        if draw.below(3) == 0 { add(.stall, [0.5, 1.5, 4, 10][draw.below(4)]) }
        if draw.below(3) == 0 {
            let lie: Trouble.ElectorLie = draw.below(2) == 0 ? .signsTwice : .forges
            add(.lies(lie), 10 + 60 * draw.uniform())
        }
        return out
    }
}
