public import Coordination
import Messages
import Planning
import Primitives
import Record
public import Telemetry
public import Topologies

/// What happens to peers while a job runs, as its events tell it: the time line of a record.
public struct RunTrace: Sendable {
    struct Entry: Hashable, Sendable {
        enum Kind: Hashable, Sendable {
            case left
            case lost
            case joined
            /// FLOP/s.
            case speed(Double)
        }
        var kind: Kind
        var peer: String
        var at: Instant
    }
    private(set) var entries: [Entry] = []
    private var isTraining = false
    /// Later ones are not kept: nobody replays so many.
    private static let most = 10_000

    public init() {}

    public mutating func hear(_ event: Event) {
        guard entries.count < RunTrace.most else { return }
        func add(_ kind: Entry.Kind) { entries.append(Entry(kind: kind, peer: event.peer, at: event.at)) }
        switch event.what {
        case .placed: isTraining = true
        case .peerJoined: if isTraining { add(.joined) }
        case .peerLost(_, let saidGoodbye): add(saidGoodbye ? .left : .lost)
        case .speedChanged(_, _, let measured): add(.speed(measured * 1e9))
        default: break
        }
    }
}

extension RunRecord {
    /// Of a run so far, real or simulated; nil before there is a plan.
    public init?(_ coordinator: Coordinator, _ view: JobView) {
        guard let first = coordinator.predictionAtStart else { return nil }
        let prediction = first.planned.prediction
        let innerSteps = first.plan.innerSteps
        let planned = view.rounds.items.filter { $0.planEpoch == 1 && !$0.isUndone }.dropFirst()
        let calm = planned.filter(\.isUndisturbed)
        let usable = calm.isEmpty ? Array(planned) : calm
        let whole = usable.filter { $0.steps == innerSteps }.map(\.seconds).sorted()
        let steps = usable.filter { $0.steps > 0 }.map { $0.seconds / Double($0.steps) }.sorted()
        let sent = Double(coordinator.roster.sentBytes)
        var total: Double?
        if let began = view.trainingSince, let last = view.rounds.last { total = (last.at - began).inSeconds }
        let perRound = prediction.peers.reduce(0.0) { $0 + Double($1.sentBytes) }
        self.init(
            job: coordinator.parameters.name, steps: view.rounds.last?.stepsDone ?? 0,
            rounds: coordinator.state.seals.count, innerSteps: innerSteps,
            predicted: Figures(
                stepSeconds: prediction.roundSeconds / Double(innerSteps), roundSeconds: prediction.roundSeconds,
                totalSeconds: prediction.totalSeconds, sentBytes: perRound * Double(prediction.rounds)),
            measured: Figures(
                stepSeconds: steps.isEmpty ? nil : steps[steps.count / 2],
                roundSeconds: whole.isEmpty ? nil : whole[whole.count / 2], totalSeconds: total,
                sentBytes: sent > 0 ? sent : nil),
            recoverySeconds: view.losses.items.compactMap(\.resumedAfter), plan: first.planned.plan.recorded)
    }
}

extension Topology {
    /// A run as a file that `replay` takes: the pool as measured before the first step, who came later as measured then, and what
    /// happened to whom, at which part of the job's steps. nil before there is a plan.
    public static func recorded(_ coordinator: Coordinator, _ view: JobView, _ trace: RunTrace) -> Topology? {
        guard let first = coordinator.predictionAtStart, let record = RunRecord(coordinator, view) else { return nil }
        var pool = first.topology
        if let latest = coordinator.answer?.topology { pool.add(newcomers: latest) }
        pool.record(trace, rounds: view.rounds.items.filter { !$0.isUndone })
        pool.name = "record"
        pool.about = "A live pool as its launcher measured it, and what happened to its peers while a job ran."
        pool.expectation = "A replay comes near to what was measured (record)."
        let before = pool.hosts.map(\.name)
        pool = pool.withUsableNames()
        for index in pool.faults.indices {
            let host = before.firstIndex(of: pool.faults[index].host)
            pool.faults[index].host = host.map { pool.hosts[$0].name } ?? pool.faults[index].host
        }
        pool.record = record
        pool.record?.plan = record.plan?.renamed { name in
            before.firstIndex(of: name).map { pool.hosts[$0].name } ?? name
        }
        return pool
    }

    /// Hosts of `other` that are not here, with their links to all that both know.
    package mutating func add(newcomers other: Topology) {
        var place: [Int: Int] = [:]
        var fresh: Set<Int> = []
        for (index, host) in other.hosts.enumerated() {
            if let known = self.index(of: host.name) {
                place[index] = known
            } else {
                place[index] = hosts.count
                fresh.insert(index)
                hosts.append(host)
            }
        }
        for (pair, link) in other.links where fresh.contains(pair.from) || fresh.contains(pair.to) {
            if let from = place[pair.from], let to = place[pair.to] { links[Pair(from, to)] = link }
        }
    }

    /// The trace as events: a moment is a part of the steps that were done in the end.
    package mutating func record(_ trace: RunTrace, rounds: [JobView.Round]) {
        let all = Double(max(1, rounds.last?.stepsDone ?? 0))
        func moment(_ at: Instant) -> Fault.Moment {
            var done = 0.0
            for round in rounds {
                if round.at > at {
                    let left = (round.at - at).inSeconds / max(1e-9, round.seconds)
                    done = Double(round.stepsDone) - Double(round.steps) * min(1, left)
                    break
                }
                done = Double(round.stepsDone)
            }
            return .progress(min(1, max(0, done / all)))
        }
        for entry in trace.entries {
            guard let host = index(of: entry.peer) else { continue }
            let kind: Fault.Kind
            switch entry.kind {
            case .left: kind = .leave
            case .lost: kind = .kill
            case .joined: kind = .join
            case .speed(let flops):
                // A time line knows slower hosts only.
                guard flops > 0, hosts[host].flops > 1.02 * flops else { continue }
                kind = .slow(factor: hosts[host].flops / flops)
            }
            faults.append(Fault(kind, at: moment(entry.at), host: entry.peer))
        }
    }
}
