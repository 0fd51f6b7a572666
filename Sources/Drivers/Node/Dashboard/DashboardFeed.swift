import Foundation
import Planning
package import Primitives
package import Telemetry
import Topologies

/// What the dashboard is told, as records of JSON (docs/DASHBOARD.md): of what happened as it happens, of how things are where it changed.
///
/// Memory is bounded, however long it goes on: of rounds, events and what stages did the last ones are kept for whoever looks later; a feed that
/// keeps everything, for a file, stops with what stages did when that is very much.
package struct DashboardFeed {
    /// What is said of one peer.
    package struct Peer {
        package var name: String
        package var standing = "joined"
        package var why: String?
        package var doing = ""
        package var rank: Int?
        package var stage = 0
        package var stages = 0
        package var roundTripMilliseconds: Double?
        package var relayedBy: String?
        package var gflops: Double?
        package var measuredGflops: Double?
        package var sentBytes: Int?
        /// Whose page this is.
        package var isSelf = false
        /// Connected, and of no job that is known here.
        package var isOutside = false
        package init(name: String) { self.name = name }
    }
    /// A pair, and its latency one way.
    package struct Line {
        package var a: String
        package var b: String
        package var milliseconds: Double
    }
    private struct Kept {
        var at: Double
        var text: String
    }

    static let mostPeers = 1024
    static let mostActs = 8192
    static let mostActsInFile = 300_000
    private let keepsAll: Bool
    private let origin: Instant
    /// Not handed out yet; in a feed that keeps everything all there ever was.
    private var fresh: [String] = []
    private var places: [String: Int] = [:]
    private var peers: [String] = []
    private var doing: [String] = []
    private var now = "{}"
    private var lines: String?
    private var plan: String?
    private var rounds = Recent<Kept>(limit: 2048)
    private var marks = Recent<Kept>(limit: 512)
    private var acts = Recent<Kept>(limit: Self.mostActs)
    private var actCount = 0
    package private(set) var planEpoch = 0

    /// - Parameters:
    ///   - origin: times are counted from here.
    ///   - keepsAll: for a file; else ``take()`` empties it.
    package init(since origin: Instant, keepsAll: Bool = false) {
        self.origin = origin
        self.keepsAll = keepsAll
    }

    /// What is new since the last time.
    package mutating func take() -> [String] {
        defer { fresh = [] }
        return fresh
    }
    /// Everything of a feed that keeps it.
    package var all: [String] { fresh }
    /// What somebody needs who has seen nothing; what is not handed out yet is in it.
    package func snapshot(at moment: Instant) -> [String] {
        let t = seconds(moment)
        var out = ["[\"z\"]", "[\"m\",\(t),\(now)]"]
        out += peers.enumerated().map { "[\"p\",\(t),\($0),\($1)]" }
        if let lines { out.append("[\"l\",\(t),\(lines)]") }
        if let plan { out.append("[\"g\",\(t),\(plan)]") }
        for series in [rounds, acts, marks] { out += series.items.map(\.text) }
        return out
    }
    private func seconds(_ moment: Instant) -> String { fixed(max(0, (moment - origin).inSeconds), 3) }
    private mutating func tell(_ record: String) { fresh.append(record) }

    // MARK: what happens

    /// - Parameters:
    ///   - sentence: what a person reads of it; nil for what only machines read.
    ///   - host: who told it, where there are several.
    package mutating func hear(_ event: Event, sentence: String?, from host: String = "") {
        let t = seconds(event.at)
        switch event.what {
        case .rolledBack(let round, _, _):
            let record = "[\"u\",\(t),\(round)]"
            rounds.append(Kept(at: event.at.seconds, text: record))
            tell(record)
        case .roundSealed(
            let round, let steps, let tokens, let trainLoss, let validationLoss, let pipelines, let seconds, _,
            let predicted):
            _ = (tokens, pipelines)
            note(
                round: round, stepsDone: steps, loss: trainLoss, validation: validationLoss, seconds: seconds,
                predicted: predicted, at: event.at)
        default: break
        }
        guard let sentence else { return }
        let told = host.isEmpty ? sentence : "\(host): \(sentence.trimmingCharacters(in: .whitespaces))"
        let cls =
            switch event.what {
            case .peerJoined, .resumed, .trainingResumed, .workTakenUp, .ownerResumed, .connectionResumed: "up"
            case .peerLost, .peerKilled, .interrupted, .workHandedOver, .ownerPaused, .fault: "down"
            case .planned, .replanned, .replaced, .rolledBack, .leaderChanged, .leadershipTaken: "change"
            default: ""
            }
        let about = quoted(event.peer), text = quoted(told.trimmingCharacters(in: .whitespaces))
        let record =
            "[\"k\",\(t),\(quoted(event.kind)),\(about),\(text),\"\(cls)\",\(quoted(String(event.json.prefix(2000))))]"
        marks.append(Kept(at: event.at.seconds, text: record))
        tell(record)
    }

    private var stepsSealed = 0
    /// A sealed round.
    /// - Parameter stepsDone: of the job.
    package mutating func note(
        round: Int, stepsDone: Int, loss: Double?, validation: Double?, seconds: Double?, predicted: Double?,
        at moment: Instant
    ) {
        var parts = ["\"round\":\(round)", "\"steps\":\(max(0, stepsDone &- stepsSealed))"]
        stepsSealed = stepsDone
        for (name, value) in [
            ("loss", loss), ("validation", validation), ("seconds", seconds), ("predicted", predicted),
        ] {
            // A loss of zero is none: compute was only charged.
            if let value, value.isFinite, value != 0 { parts.append("\"\(name)\":\(fixed(value, 6))") }
        }
        let record = "[\"r\",\(self.seconds(moment)),{\(parts.joined(separator: ","))}]"
        rounds.append(Kept(at: moment.seconds, text: record))
        tell(record)
    }

    // MARK: how things are

    /// - Parameter fields: names and JSON, in an order that stays.
    package mutating func see(_ fields: [(name: String, json: String)], at moment: Instant) {
        let text = "{" + fields.map { "\(quoted($0.name)):\($0.json)" }.joined(separator: ",") + "}"
        guard text != now else { return }
        now = text
        tell("[\"m\",\(seconds(moment)),\(text)]")
    }
    package mutating func see(_ peer: Peer, at moment: Instant) {
        let t = seconds(moment)
        guard let place = place(of: peer.name) else { return }
        let text = Self.json(peer)
        if place == peers.count {
            peers.append(text)
            doing.append("")
            tell("[\"p\",\(t),\(place),\(text)]")
        } else if peers[place] != text {
            peers[place] = text
            tell("[\"p\",\(t),\(place),\(text)]")
        }
        guard peer.doing != doing[place], !peer.isOutside else { return }
        doing[place] = peer.doing
        actCount += 1
        guard !keepsAll || actCount <= Self.mostActsInFile else { return }
        let record = "[\"a\",\(t),\(place),\(quoted(peer.doing))]"
        acts.append(Kept(at: moment.seconds, text: record))
        tell(record)
    }
    private mutating func place(of name: String) -> Int? {
        if let known = places[name] { return known }
        guard places.count < Self.mostPeers else { return nil }
        places[name] = places.count
        return places.count - 1
    }
    private static func json(_ peer: Peer) -> String {
        var parts = ["\"name\":\(quoted(peer.name))", "\"standing\":\(quoted(peer.standing))"]
        func add(_ name: String, _ json: String?) { if let json { parts.append("\"\(name)\":\(json)") } }
        add("why", peer.why.map(quoted))
        add("doing", peer.doing.isEmpty ? nil : quoted(peer.doing))
        if let rank = peer.rank {
            parts.append("\"rank\":\(rank),\"stage\":\(peer.stage),\"stages\":\(peer.stages)")
        }
        // Of two digits, as the last ones differ each second.
        add("rtt", peer.roundTripMilliseconds.map { fixed($0, $0 < 10 ? 1 : 0) })
        add("via", peer.relayedBy.map(quoted))
        add("gflops", peer.gflops.map { fixed($0, 2) })
        add("measured", peer.measuredGflops.map { fixed($0, 2) })
        add("sent", peer.sentBytes.map { "\($0)" })
        if peer.isSelf { parts.append("\"self\":true") }
        if peer.isOutside { parts.append("\"outside\":true") }
        return "{" + parts.joined(separator: ",") + "}"
    }

    /// How far who is from whom.
    package mutating func see(_ all: [Line], at moment: Instant) {
        let known = all.prefix(16_384).compactMap { line -> String? in
            guard let a = places[line.a], let b = places[line.b], line.milliseconds.isFinite else { return nil }
            return "[\(a),\(b),\(fixed(line.milliseconds, 2))]"
        }
        let text = "[" + known.joined(separator: ",") + "]"
        guard text != lines else { return }
        lines = text
        tell("[\"l\",\(seconds(moment)),\(text)]")
    }

    /// What a plan predicts of a round and of a step.
    package mutating func expect(_ line: TimeLine, epoch: Int, at moment: Instant) {
        guard epoch != planEpoch else { return }
        planEpoch = epoch
        var spans: [String] = []
        for (rank, pipeline) in line.pipelines.enumerated() {
            for span in pipeline {
                let kind =
                    switch span.kind {
                    case .forward, .validate: "fw"
                    case .head, .backward: "bw"
                    case .update: "uw"
                    }
                spans.append("[\(rank),\(span.stage),\"\(kind)\",\(fixed(span.start, 5)),\(fixed(span.end, 5))]")
            }
        }
        // Of very many micro-batches the round is drawn, and no single step.
        let drawn = spans.count <= 40_000 ? "[\(spans.joined(separator: ","))]" : "null"
        let steps = line.stepSeconds.map { fixed($0, 6) }.joined(separator: ",")
        plan =
            "{\"epoch\":\(epoch),\"round\":\(fixed(line.roundSeconds, 6)),\"validation\":\(fixed(line.validationSeconds, 6)),"
            + "\"trained\":\(fixed(line.trainedAt, 6)),\"inner\":\(line.innerSteps),\"steps\":[\(steps)],\"end\":\(fixed(line.end, 6)),\"spans\":\(drawn)}"
        tell("[\"g\",\(seconds(moment)),\(plan!)]")
    }
}

extension DashboardFeed.Line {
    /// Of a pool of many, to each the eight nearest and eight others: enough to place it.
    package static func all(of topology: Topology, peers: [Int]) -> [DashboardFeed.Line] {
        var out: [DashboardFeed.Line] = []
        var seen: Set<Topology.Pair> = []
        for (place, from) in peers.enumerated() {
            let far = peers.filter { $0 != from }.map { to in
                (to: to, seconds: topology.latencySeconds(from: from, to: to))
            }
            let sorted = far.filter(\.seconds.isFinite).sorted { ($0.seconds, $0.to) < ($1.seconds, $1.to) }
            let others =
                sorted.count > 16
                ? (0..<8).map { sorted[8 + (place * 7 + $0 * (sorted.count - 8) / 8) % (sorted.count - 8)] } : []
            for (to, seconds) in sorted.prefix(sorted.count > 16 ? 8 : 16) + others
            where seen.insert(Topology.Pair(min(from, to), max(from, to))).inserted {
                out.append(
                    .init(a: topology.hosts[from].name, b: topology.hosts[to].name, milliseconds: seconds * 1000))
            }
        }
        return out
    }
}
