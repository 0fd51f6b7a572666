package import Primitives

/// Which machines carry a job's record: how many, and who, by what is seen of them.
///
/// Whoever has a seat keeps it while it is there. Free ones go first to machines that can be reached and whose disk answers within a second;
/// among these to nodes, which are there to carry records and compute nothing; among these to other networks than those of the electors so far; and among these to whoever costs an entry the least time: a round trip,
/// a write, and ten seconds for each part of the time that it was away.
package struct ElectorChoice: Sendable {
    package struct Candidate: Hashable, Sendable {
        package var peer: PeerID
        package var name: String
        /// The first bytes of its address; nil where nobody knows.
        package var network: [UInt8]?
        package var roundTrip: Duration?
        /// The longest of its last writes.
        package var disk: Duration?
        package var isReachable: Bool
        /// Share of the time since it came in which it was here.
        package var uptime: Double
        /// It is there for nothing else: a node.
        package var isKeeper: Bool
        package init(
            _ peer: PeerID, name: String, network: [UInt8]? = nil, roundTrip: Duration? = nil, disk: Duration? = nil,
            isReachable: Bool = true, uptime: Double = 1, isKeeper: Bool = false
        ) {
            self.peer = peer
            self.name = name
            self.network = network
            self.roundTrip = roundTrip
            self.disk = disk
            self.isReachable = isReachable
            self.uptime = uptime
            self.isKeeper = isKeeper
        }

        /// A leader with a slower one hands over at once.
        package static let slowestDisk = Duration.seconds(1)
        package var isFit: Bool { isReachable && disk ?? .zero < Self.slowestDisk }
        /// Seconds; of what is unknown the worst that is usual.
        var cost: Double {
            (roundTrip ?? .seconds(60)).inSeconds + (disk ?? .milliseconds(20)).inSeconds + 10 * (1 - uptime)
        }
        func why(isElsewhere: Bool) -> String {
            var parts = [roundTrip.map { "\(fixed($0.inSeconds * 1000, 1)) ms away" } ?? "of unknown distance"]
            if let disk { parts.append("its disk answers in \(fixed(disk.inSeconds * 1000, 1)) ms") }
            if uptime < 0.9995 { parts.append("here for \(fixed(100 * uptime, 1)) % of the time") }
            if isKeeper { parts.append("there to carry records") }
            if !isReachable { parts.append("not to be reached from outside") }
            if isElsewhere { parts.append("in another network") }
            return "\(name) is \(parts.joined(separator: ", "))"
        }
    }

    /// Given by the job; nil: by what is seen.
    package var asked: Int?
    package var seated: [Candidate]
    package var able: [Candidate]
    /// Time that was seen of all members, and the share of it in which they were here.
    package var seen: (time: Duration, share: Double)

    package init(asked: Int?, seated: [Candidate], able: [Candidate], seen: (time: Duration, share: Double)) {
        self.asked = asked
        self.seated = seated
        self.able = able
        self.seen = seen
    }

    /// Below this share a majority of three is lost too often: of five it is once in a hundred times as long.
    static let steady = 0.95
    /// Less says nothing about who stays.
    static let enough = Duration.seconds(600)

    /// How many there should be, as far as there are any.
    package var wanted: Int {
        if let asked { return asked }
        return seen.time >= Self.enough && seen.share < Self.steady ? 5 : 3
    }

    /// All who are to be electors, and why those who are new; nil where nobody is to be added.
    package func choose() -> (peers: [PeerID], why: [String])? {
        // Where the job does not say how many, nobody unfit is taken.
        var able = asked == nil ? able.filter(\.isFit) : able
        var chosen = seated
        var count = min(wanted, chosen.count + able.count)
        // An even number decides no better than the odd one below it: four are wanted for another reason.
        if count % 2 == 0, count != wanted { count -= 1 }
        guard chosen.count < count else { return nil }
        var why: [String] = []
        while chosen.count < count {
            let networks = Set(chosen.compactMap(\.network))
            func isElsewhere(_ one: Candidate) -> Bool {
                one.network.map { !networks.isEmpty && !networks.contains($0) } ?? false
            }
            func rank(_ one: Candidate) -> (Int, Int, Int, Double, PeerID) {
                (one.isFit ? 0 : 1, one.isKeeper ? 0 : 1, isElsewhere(one) ? 0 : 1, one.cost, one.peer)
            }
            let best = able.min { rank($0) < rank($1) }!
            why.append(best.why(isElsewhere: isElsewhere(best)))
            chosen.append(best)
            able.removeAll { $0.peer == best.peer }
        }
        return (chosen.map(\.peer).sorted(), why)
    }
}
