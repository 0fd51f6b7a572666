internal import Links
internal import Primitives

/// Peers and what lies between each two of them, as a foreign file gives it: before what it leaves open is assumed, and before
/// what is missing between some of them is dealt with.
struct ImportedPool {
    struct Member {
        var name: String
        var line: Int?
        var device = "computer"
        var flops: Double?
        var up: BitRate?
        var down: BitRate?
    }
    /// From one member to another.
    struct Way: Equatable {
        /// One way.
        var seconds: Double
        var jitterSeconds = 0.0
        /// Share lost, 0…1.
        var loss = 0.0
        /// Bit/s; infinite where the file gives none.
        var rate = Double.infinity
    }
    var members: [Member]
    /// [from, to], row by row; nil where the file says nothing. Diagonals are not read.
    var ways: [Way?]
    /// Whether a way that is known in one direction only goes for both: measured pairs, but no path in a directed graph.
    var mirrors = false
    var notes: [String] = []

    init(members: [Member], mirrors: Bool = false) {
        self.members = members
        self.mirrors = mirrors
        ways = [Way?](repeating: nil, count: members.count * members.count)
    }
    subscript(from: Int, to: Int) -> Way? {
        get { ways[from * members.count + to] }
        set { ways[from * members.count + to] = newValue }
    }

    /// Signals that take no time: this much is taken instead, because something must.
    static let leastSeconds = 1e-6
    /// Nothing on Earth takes longer.
    static let mostSeconds = 100.0

    /// - Throws: ``FileProblem`` when pairs are missing and nobody has said what becomes of them, or a way takes more than 100 s.
    func topology(
        name: String, about: String, options: ImportOptions, file: String
    ) throws(FileProblem) -> (topology: Topology, notes: [String]) {
        guard !members.isEmpty else {
            throw FileProblem(
                .missingKey, file: file, found: "no host", allowed: "at least one node that can be a peer")
        }
        var pool = self
        pool.mirrorWays()
        try pool.connect(options, file: file)
        try pool.checkWays(file: file)
        var topology = Topology(
            name: name, about: about, expectation: "Imported: nobody has said yet what to expect.", hosts: [])
        for member in pool.members {
            topology.hosts.append(
                Host(
                    name: member.name, device: member.device, flops: member.flops ?? options.flops,
                    memory: options.memory, up: member.up ?? options.up, down: member.down ?? options.down))
        }
        let count = pool.members.count
        for from in 0..<count {
            for to in 0..<count where to != from {
                if let way = pool[from, to] { topology.links[Topology.Pair(from, to)] = way.link }
            }
        }
        return (topology, pool.notes + pool.assumptions(options))
    }

    // MARK: what is missing

    private mutating func mirrorWays() {
        guard mirrors else { return }
        var filled = 0
        for from in members.indices {
            for to in members.indices where to != from && self[from, to] == nil {
                guard let back = self[to, from] else { continue }
                self[from, to] = back
                filled += 1
            }
        }
        if filled > 0 {
            notes.append("\(filled) ways are known in the other direction only, which is taken for both.")
        }
    }

    private mutating func connect(_ options: ImportOptions, file: String) throws(FileProblem) {
        let missing = missingWays()
        guard let first = missing.first else { return }
        switch options.disconnected {
        case .refuse:
            throw FileProblem(
                .disconnected, file: file, line: members[first.to].line,
                found: "no way from \(members[first.from].name) to \(members[first.to].name)"
                    + (missing.count == 1 ? "" : ", nor between \(missing.count - 1) other pairs"),
                allowed: "a way between each two: add them, or say --largest-component or --assume-latency MS")
        case .assume(let seconds):
            for pair in missing { self[pair.from, pair.to] = Way(seconds: seconds) }
            notes.append(
                "\(missing.count) ways are not in the file: \(fixed(seconds * 1000, 3)) ms assumed for each, as asked.")
        case .largestPart: keepLargestPart()
        }
    }
    private func missingWays() -> [(from: Int, to: Int)] {
        var found: [(from: Int, to: Int)] = []
        for from in members.indices {
            for to in members.indices where to != from && self[from, to] == nil { found.append((from, to)) }
        }
        return found
    }
    /// Leaves out, one after the other, who misses most ways, until none is missing: of a graph in parts the largest part stays.
    private mutating func keepLargestPart() {
        var kept = Array(members.indices)
        var missed = members.indices.map { a in
            members.indices.count { $0 != a && (self[a, $0] == nil || self[$0, a] == nil) }
        }
        var left: [String] = []
        while let worst = kept.max(by: { (missed[$0], $0) < (missed[$1], $1) }), missed[worst] > 0 {
            kept.removeAll { $0 == worst }
            left.append(members[worst].name)
            for other in kept where self[worst, other] == nil || self[other, worst] == nil { missed[other] -= 1 }
        }
        var part = ImportedPool(members: kept.map { members[$0] })
        for (a, from) in kept.enumerated() {
            for (b, to) in kept.enumerated() where a != b { part[a, b] = self[from, to] }
        }
        part.notes = notes
        part.notes.append(
            "\(left.count) of \(members.count) hosts are left out, as asked: not all of the others can be reached from and to "
                + "them (\(shortList(left.sorted(), most: 5))).")
        self = part
    }

    private mutating func checkWays(file: String) throws(FileProblem) {
        var still = 0
        for from in members.indices {
            for to in members.indices where to != from {
                guard let way = self[from, to] else { continue }
                guard way.seconds <= ImportedPool.mostSeconds else {
                    throw FileProblem(
                        .outOfRange, file: file, line: members[to].line,
                        found: "\(fixed(way.seconds, 1)) s from \(members[from].name) to \(members[to].name)",
                        allowed: "paths of at most \(Int(ImportedPool.mostSeconds)) s; is a unit wrong?")
                }
                guard way.seconds < ImportedPool.leastSeconds else { continue }
                self[from, to]?.seconds = ImportedPool.leastSeconds
                still += 1
            }
        }
        if still > 0 { notes.append("\(still) ways take no time, or less than 1 µs: 1 µs is taken, the floor.") }
    }

    private func assumptions(_ options: ImportOptions) -> [String] {
        let (count, slow) = (members.count, members.count { $0.flops == nil })
        let lines = members.count { $0.up == nil || $0.down == nil }
        var notes: [String] = []
        if slow > 0 {
            notes.append(
                "\(slow) of \(count) peers: speed and memory are not in the file; "
                    + "\(fixed(options.flops / 1e9, 1)) GFLOP/s and \(options.memory) assumed.")
        } else {
            notes.append("Memory is not in the file; \(options.memory) assumed.")
        }
        if lines > 0 {
            notes.append(
                "\(lines) of \(count) peers: access lines are not in the file; up \(options.up), down \(options.down) "
                    + "assumed.")
        }
        return notes
    }
}

extension ImportedPool.Way {
    var link: LinkProperties {
        let most: BitRate? = rate.isFinite ? BitRate(bitsPerSecond: min(rate, 1e13)) : nil
        return LinkProperties(
            latency: .nanoseconds(Int64((seconds * 1e9).rounded())),
            jitter: .nanoseconds(Int64((min(10, jitterSeconds) * 1e9).rounded())),
            // A thousandth of a percent is more than any file means.
            loss: min(0.99, (loss * 1e9).rounded() / 1e9), rate: most)
    }
}

extension ImportedPool {
    /// Where no line is given, one that carries what its best pair carries.
    mutating func widenLines() {
        for member in members.indices where members[member].up == nil || members[member].down == nil {
            let others = members.indices.filter { $0 != member }
            let up = others.compactMap { self[member, $0]?.rate }.filter(\.isFinite).max()
            let down = others.compactMap { self[$0, member]?.rate }.filter(\.isFinite).max()
            members[member].up = members[member].up ?? up.map { BitRate(bitsPerSecond: min($0, 1e13)) }
            members[member].down = members[member].down ?? down.map { BitRate(bitsPerSecond: min($0, 1e13)) }
        }
    }
}
