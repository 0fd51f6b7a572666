import Foundation
package import Membership
import Messages
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
        /// By which it is known on the page; of somebody of whom only the key is known, its first digits.
        package var name: String
        /// As it calls itself, where that is not what it is known by: others may call themselves the same.
        package var label: String?
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
        package init(a: String, b: String, milliseconds: Double) {
            (self.a, self.b, self.milliseconds) = (a, b, milliseconds)
        }
    }
    private struct Kept {
        var text: String
        /// So many changes of what stages do are in it.
        var weight = 1
    }

    package static let mostPeers = 1024
    package static let mostRounds = 2048
    package static let mostMarks = 512
    /// Changes of what stages do.
    package static let mostActs = 8192
    package static let mostActsInFile = 300_000
    package static let mostLines = 16_384
    /// Times and bytes of connections are told after so many seconds at the earliest; in a file twice as many after each hundred times.
    private static let figuresPause = 5.0
    private static let figuresPauseInFile = 1.0
    private static let figuresBeforeDoubling = 100
    /// Pieces of steps, as they were computed; and how often they are told, which a file halves after each twenty times.
    package static let mostSpansInFile = 200_000
    private static let tracesPause = 5.0
    private static let tracesBeforeDoubling = 20
    private let keepsAll: Bool
    private let origin: Instant
    /// Not handed out yet; in a feed that keeps everything all there ever was.
    private var fresh: [String] = []
    private var places: [String: Int] = [:]
    private var peers: [String] = []
    private var doing: [String] = []
    /// As told, and as it is.
    private var figures: [(told: String, seen: String)] = []
    private var figuresNext = (due: 0.0, told: 0)
    /// What peers have begun to do since the last ``settle(at:)``, in the order in which it was seen first.
    private var traces = Traces()
    private var begun: [(doing: String, places: [Int])] = []
    private var fields: [(name: String, json: String)] = []
    private var lines: String?
    private var plan: String?
    private var rounds = Recent<String>(limit: Self.mostRounds)
    private var marks = Recent<String>(limit: Self.mostMarks)
    private var acts: [Kept] = []
    private var actsKept = 0
    private var actsTold = 0
    package private(set) var planEpoch = 0
    private struct Traces {
        var due = 0.0
        var told = 0
        var spans = 0
        /// By peer, the newest, for whoever looks later.
        var latest: [Int: String] = [:]
    }

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
        var out = ["[\"z\"]", "[\"m\",\(t),\(Self.object(fields))]"]
        out += peers.enumerated().map { "[\"p\",\(t),\($0),\($1)]" }
        let known = figures.enumerated().filter { !$0.element.seen.isEmpty }.map { "[\($0.offset),\($0.element.seen)]" }
        if !known.isEmpty { out.append("[\"v\",\(t),[\(known.joined(separator: ","))]]") }
        if let lines { out.append("[\"l\",\(t),\(lines)]") }
        if let plan { out.append("[\"g\",\(t),\(plan)]") }
        out += traces.latest.sorted { $0.key < $1.key }.map(\.value)
        return out + rounds.items + acts.map(\.text) + marks.items
    }
    private func seconds(_ moment: Instant) -> String { fixed(max(0, (moment - origin).inSeconds), 3) }
    private mutating func tell(_ record: String) { fresh.append(record) }

    /// Another job begins: rounds, steps and plan are of the last one, and whoever looks begins anew without them.
    package mutating func forgetJob(at moment: Instant) {
        rounds = Recent(limit: Self.mostRounds)
        (stepsSealed, plan, planEpoch) = (0, nil, 0)
        traces.latest = [:]
        fresh = snapshot(at: moment)
    }

    // MARK: what happens

    /// - Parameters:
    ///   - sentence: what a person reads of it; nil for what only machines read.
    ///   - host: who told it, where there are several.
    package mutating func hear(_ event: Event, sentence: String?, from host: String = "") {
        let t = seconds(event.at)
        switch event.what {
        case .rolledBack(let round, _, _):
            let record = "[\"u\",\(t),\(round)]"
            rounds.append(record)
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
        guard let sentence, !sentence.isEmpty else { return }
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
        marks.append(record)
        tell(record)
    }

    private var stepsSealed = 0
    /// A sealed round.
    /// - Parameter stepsDone: of the job.
    package mutating func note(
        round: Int, stepsDone: Int, loss: Double?, validation: Double?, seconds: Double?, predicted: Double?,
        at moment: Instant
    ) {
        // Rounds before are not known where others have begun the job.
        let before = stepsSealed == 0 && round > 0 ? stepsDone &- stepsDone / (round &+ 1) : stepsSealed
        var parts = ["\"round\":\(round)", "\"steps\":\(max(0, stepsDone &- before))"]
        stepsSealed = stepsDone
        for (name, value) in [
            ("loss", loss), ("validation", validation), ("seconds", seconds), ("predicted", predicted),
        ] {
            // A loss of zero is none: compute was only charged.
            if let value, value.isFinite, value != 0 { parts.append("\"\(name)\":\(fixed(value, 6))") }
        }
        let record = "[\"r\",\(self.seconds(moment)),{\(parts.joined(separator: ","))}]"
        rounds.append(record)
        tell(record)
    }

    // MARK: how things are

    /// Of what is as it was nothing is told.
    /// - Parameter fields: names and JSON, each name once.
    package mutating func see(_ fields: [(name: String, json: String)], at moment: Instant) {
        let before = Dictionary(self.fields.map { ($0.name, $0.json) }) { $1 }
        let names = Set(fields.map(\.name))
        let changed =
            fields.filter { before[$0.name] != $0.json }
            + self.fields.filter { !names.contains($0.name) }.map { (name: $0.name, json: "null") }
        guard !changed.isEmpty else { return }
        self.fields = fields
        tell("[\"m\",\(seconds(moment)),\(Self.object(changed))]")
    }
    private static func object(_ fields: [(name: String, json: String)]) -> String {
        "{" + fields.map { "\(quoted($0.name)):\($0.json)" }.joined(separator: ",") + "}"
    }
    /// To be followed by ``settle(at:)`` when all have been seen.
    package mutating func see(_ peer: Peer, at moment: Instant) {
        guard let place = place(of: peer.name) else { return }
        let text = Self.json(peer)
        if place == peers.count {
            peers.append("")
            doing.append("")
            figures.append(("", ""))
        }
        if peers[place] != text {
            peers[place] = text
            tell("[\"p\",\(seconds(moment)),\(place),\(text)]")
        }
        figures[place].seen = Self.figures(peer)
        guard peer.doing != doing[place], !peer.isOutside else { return }
        doing[place] = peer.doing
        if let known = begun.firstIndex(where: { $0.doing == peer.doing }) {
            begun[known].places.append(place)
        } else {
            begun.append((peer.doing, [place]))
        }
    }
    /// All peers of this moment have been seen.
    package mutating func settle(at moment: Instant) {
        let t = seconds(moment)
        for one in begun {
            // Of a file that is full it is not known any more what anybody does.
            let isFull = keepsAll && actsTold >= Self.mostActsInFile
            if isFull { break }
            actsTold += one.places.count
            let ends = keepsAll && actsTold >= Self.mostActsInFile
            let record =
                ends
                ? "[\"a\",\(t),\"\",[\(peers.indices.map(String.init).joined(separator: ","))]]"
                : "[\"a\",\(t),\(quoted(one.doing)),[\(one.places.map(String.init).joined(separator: ","))]]"
            tell(record)
            if !keepsAll { keep(Kept(text: record, weight: one.places.count)) }
        }
        begun = []
        guard (moment - origin).inSeconds >= figuresNext.due else { return }
        let changed = figures.indices.filter { figures[$0].seen != figures[$0].told }
        guard !changed.isEmpty else { return }
        for place in changed { figures[place].told = figures[place].seen }
        tell("[\"v\",\(t),[\(changed.map { "[\($0),\(figures[$0].seen)]" }.joined(separator: ","))]]")
        let doublings = keepsAll ? figuresNext.told / Self.figuresBeforeDoubling : 0
        figuresNext.told += 1
        let pause = keepsAll ? Self.figuresPauseInFile * Double(1 << min(doublings, 32)) : Self.figuresPause
        figuresNext.due = (moment - origin).inSeconds + pause
    }
    private mutating func keep(_ act: Kept) {
        acts.append(act)
        actsKept += act.weight
        // In bulk: removing one at the front moves all others.
        guard actsKept > Self.mostActs + Self.mostActs / 8 else { return }
        var (gone, weight) = (0, 0)
        while actsKept - weight > Self.mostActs {
            weight += acts[gone].weight
            gone += 1
        }
        acts.removeFirst(gone)
        actsKept -= weight
    }
    private mutating func place(of name: String) -> Int? {
        if let known = places[name] { return known }
        guard places.count < Self.mostPeers else { return nil }
        places[name] = places.count
        return places.count - 1
    }
    private static func json(_ peer: Peer) -> String {
        var parts = ["\"name\":\(quoted(peer.label ?? peer.name))", "\"standing\":\(quoted(peer.standing))"]
        func add(_ name: String, _ json: String?) { if let json { parts.append("\"\(name)\":\(json)") } }
        add("why", peer.why.map(quoted))
        // What members do is told as it begins.
        add("doing", peer.isOutside && !peer.doing.isEmpty ? quoted(peer.doing) : nil)
        if let rank = peer.rank {
            parts.append("\"rank\":\(rank),\"stage\":\(peer.stage),\"stages\":\(peer.stages)")
        }
        add("via", peer.relayedBy.map(quoted))
        add("gflops", peer.gflops.map { fixed($0, 2) })
        add("measured", peer.measuredGflops.map { fixed($0, 2) })
        if peer.isSelf { parts.append("\"self\":true") }
        if peer.isOutside { parts.append("\"outside\":true") }
        return "{" + parts.joined(separator: ",") + "}"
    }

    /// What differs each second: the round trip, of two digits, and bytes sent; empty where neither is known.
    private static func figures(_ peer: Peer) -> String {
        if peer.roundTripMilliseconds == nil, peer.sentBytes == nil { return "" }
        let time = peer.roundTripMilliseconds.map { fixed($0, $0 < 10 ? 1 : 0) } ?? "null"
        return time + "," + (peer.sentBytes.map { "\($0)" } ?? "null")
    }

    // MARK: a step as it was

    /// Whether it is time to tell of one, of all who take part in it.
    package func wantsSteps(at moment: Instant) -> Bool {
        (moment - origin).inSeconds >= traces.due && (!keepsAll || traces.spans < Self.mostSpansInFile)
    }
    /// - Parameter steps: of whom, in an order that stays; one step of all.
    package mutating func see(_ steps: [(peer: String, step: StepTrace.Step)], at moment: Instant) {
        for (name, step) in steps {
            guard let place = places[name], place < peers.count, let begin = step.spans.map(\.from).min() else {
                continue
            }
            let spans = step.spans.map { span in
                "[\"\(span.kind.pageWord)\",\(fixed((span.from - begin).inSeconds, 4)),\(fixed((span.to - begin).inSeconds, 4))]"
            }
            let record =
                "[\"b\",\(seconds(moment)),\(place),\(step.step),\(fixed((begin - origin).inSeconds, 4)),[\(spans.joined(separator: ","))]]"
            tell(record)
            traces.spans += spans.count
            if !keepsAll { traces.latest[place] = record }
        }
        traces.told += 1
        let doublings = keepsAll ? traces.told / Self.tracesBeforeDoubling : 0
        let pause = keepsAll ? Self.figuresPauseInFile * Double(1 << min(doublings, 32)) : Self.tracesPause
        traces.due = (moment - origin).inSeconds + pause
    }

    /// How far who is from whom.
    package mutating func see(_ all: [Line], at moment: Instant) {
        let known = all.prefix(Self.mostLines).compactMap { line -> String? in
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

extension StepReport.Kind {
    /// The page's word, and its class.
    fileprivate var pageWord: String {
        switch self {
        case .forward: "fw"
        case .backward: "bw"
        case .update: "uw"
        }
    }
}
