package import Compute
import Coordination
package import Daemon
internal import Membership
import Planning
package import Primitives
import Record
package import Telemetry
import Topologies

/// Turns what a daemon is and what happens to it, live or simulated, into what the page is told.
package struct DashboardPicture {
    /// A daemon in one moment.
    package struct Moment {
        package var daemon: DaemonStatus
        package var view: JobView
        /// While it leads.
        package var coordinator: Coordinator?
        /// What is to be said.
        package var now: [String]
        package var limits: [String]
        /// At its sockets, where that is of interest.
        package var sentBytes: Int?
        package var receivedBytes: Int?
        package init(
            daemon: DaemonStatus, view: JobView, coordinator: Coordinator?, now: [String], limits: [String] = [],
            sentBytes: Int? = nil, receivedBytes: Int? = nil
        ) {
            self.daemon = daemon
            self.view = view
            self.coordinator = coordinator
            self.now = now
            self.limits = limits
            self.sentBytes = sentBytes
            self.receivedBytes = receivedBytes
        }
    }
    package private(set) var feed: DashboardFeed
    private let manifest: JobManifest?
    private let isComputed: Bool
    private var traces: [String: StepTrace] = [:]
    private var stepTold = -1
    /// Of a peer: the round whose seal it has not told yet.
    private var round: Int?
    private var surveyed: Set<String> = []
    /// Of a peer: its job, the last one where it has none; and to whom it is connected.
    private var job: String?
    private var met: [String] = []
    private var labels: [String: String] = [:]
    static let launcher = "this launcher"

    /// - Parameters:
    ///   - manifest: the job, where it is known.
    ///   - isComputed: false where arithmetic is only charged: there is no loss then.
    package init(since origin: Instant, manifest: JobManifest?, keepsAll: Bool = false, isComputed: Bool = true) {
        feed = DashboardFeed(since: origin, keepsAll: keepsAll)
        self.isComputed = isComputed
        self.manifest = manifest
    }

    package mutating func take() -> [String] { feed.take() }

    package mutating func hear(_ event: Event, sentence: String?, from host: String = "") {
        // What the last second brought is in the picture of the moment.
        if case .status = event.what { return }
        feed.hear(event, sentence: sentence, from: host)
    }

    /// A piece of a peer's work is done.
    package mutating func note(_ job: ComputeJob, of peer: String, from: Instant, to: Instant) {
        traces[peer, default: StepTrace()].note(job, from: from, to: to)
    }
    /// The newest step that all have done who are at it: pipelines are up to some steps apart, and who has left is further behind.
    private mutating func tellSteps(at now: Instant) {
        guard feed.wantsSteps(at: now), let newest = traces.values.compactMap({ $0.done.last?.step }).max(),
            let step = traces.values.compactMap({ $0.done.last?.step }).filter({ $0 + 3 > newest }).min(),
            step != stepTold
        else { return }
        stepTold = step
        feed.see(
            traces.keys.sorted().compactMap { name in traces[name]!.step(step).map { (peer: name, step: $0) } }, at: now
        )
    }

    /// Of a launcher: what members have said, a step at a time.
    private mutating func tellSteps(of coordinator: Coordinator, at now: Instant) {
        guard traces.isEmpty, let step = coordinator.tracedStep, step.number != stepTold, feed.wantsSteps(at: now)
        else {
            return
        }
        stepTold = step.number
        feed.see(
            step.told.map { told in
                (
                    peer: coordinator.roster.name(of: told.peer),
                    step: StepTrace.Step(told.report, since: told.begin)
                )
            }, at: now)
    }

    package mutating func look(_ seen: Moment, at now: Instant) {
        func list(_ texts: [String]) -> String { "[" + texts.map(quoted).joined(separator: ",") + "]" }
        var fields = seen.view.dashboardFields(at: now, stages: seen.daemon.coordinator.flatMap(\.stagesClause))
        if !isComputed { fields.append(("computed", "false")) }
        fields += [("text", list(seen.now)), ("limits", list(seen.limits))]
        if let sent = seen.sentBytes { fields.append(("out", "\(sent)")) }
        if let received = seen.receivedBytes { fields.append(("in", "\(received)")) }
        let own =
            seen.daemon.member?.dashboardFields ?? seen.daemon.coordinator.map {
                [("title", quoted("“\($0.jobName)”"))]
            }
            ?? []
        // A peer's own word is worth more than what its events tell of the job.
        fields.removeAll { field in own.contains { $0.name == field.name } }
        if let member = seen.daemon.member { turn(to: member.job, at: now) }
        feed.see(own + fields, at: now)
        let all = peers(seen)
        for peer in all { feed.see(peer, at: now) }
        if seen.daemon.member != nil { noteGone(all, at: now) }
        feed.settle(at: now)
        tellSteps(at: now)
        if let coordinator = seen.coordinator { tellSteps(of: coordinator, at: now) }
        if let member = seen.daemon.member { noteRound(of: member, at: now) }
        survey(seen, at: now)
    }

    private func peers(_ seen: Moment) -> [DashboardFeed.Peer] {
        if let member = seen.daemon.member { return member.dashboardPeers(of: seen) }
        var told: [String: DaemonStatus.Peer] = [:]
        for peer in seen.daemon.coordinator?.peers ?? [] { told[peer.name] = peer }
        var out: [DashboardFeed.Peer] = []
        if seen.daemon.coordinator != nil {
            var launcher = DashboardFeed.Peer(name: Self.launcher)
            (launcher.isSelf, launcher.isOutside, launcher.standing) = (true, true, "coordinates")
            out.append(launcher)
        }
        return out + seen.view.members.map { member in member.dashboardPeer(told[member.name]) }
    }

    /// Of a peer: another job has rounds, losses and a plan of its own.
    private mutating func turn(to job: String?, at now: Instant) {
        // What the last one came to stays until there is another.
        guard let job, job != self.job else { return }
        if self.job != nil {
            feed.forgetJob(at: now)
            round = nil
        }
        self.job = job
    }
    /// Of a peer: to whom it was connected, and is not any more.
    private mutating func noteGone(_ all: [DashboardFeed.Peer], at now: Instant) {
        let names = Set(all.map(\.name))
        for name in met where !names.contains(name) {
            var peer = DashboardFeed.Peer(name: name)
            (peer.label, peer.isOutside, peer.standing) = (labels[name], true, "gone")
            feed.see(peer, at: now)
        }
        met = met.filter { names.contains($0) } + all.map(\.name).filter { !met.contains($0) }
        for peer in all { labels[peer.name] = peer.label }
    }

    /// A peer is told of seals by their results.
    private mutating func noteRound(of member: DaemonStatus.Membership, at now: Instant) {
        guard let current = member.round, let step = member.step, let work = member.work else { return }
        defer { round = current }
        guard let before = round, current > before else { return }
        feed.note(
            round: current - 1, stepsDone: work.stepsDone ?? step, loss: work.trainLoss,
            validation: work.validationLoss,
            seconds: work.roundSeconds, predicted: nil, at: now)
    }

    /// Who is how far from whom, and what the plan predicts: where there is a plan, as it was planned for.
    private mutating func survey(_ seen: Moment, at now: Instant) {
        if let coordinator = seen.coordinator, let answer = coordinator.answerWhenMade {
            // A return to an earlier round goes on with the same plan, under another number.
            let epoch = coordinator.state.plan?.epoch ?? 0
            guard epoch != feed.planEpoch, answer.plan.round <= coordinator.state.round else { return }
            let topology = answer.topology
            let peers = topology.hosts.indices.filter { topology.hosts[$0].role == .peer }
            feed.see(DashboardFeed.Line.all(of: topology, peers: peers), at: now)
            guard let manifest else { return }
            feed.expect(TimeLine(answer.planned.plan, topology: topology, job: manifest), epoch: epoch, at: now)
            return
        }
        let (name, others) =
            if let member = seen.daemon.member {
                (member.name, seen.daemon.connections.map { ($0.peer, $0.roundTripMilliseconds) })
            } else {
                (Self.launcher, (seen.daemon.coordinator?.peers ?? []).map { ($0.name, $0.roundTripMilliseconds) })
            }
        let lines = others.compactMap { other, time in
            time.map { DashboardFeed.Line(a: name, b: other, milliseconds: $0 / 2) }
        }
        // Only when somebody comes or goes: the map is to stand still.
        guard Set(lines.map(\.b)) != surveyed else { return }
        surveyed = Set(lines.map(\.b))
        feed.see(lines, at: now)
    }
}

extension JobView {
    /// The job as it is, for the page.
    /// - Parameter stages: of the plan in force, in words.
    package func dashboardFields(at now: Instant, stages: String? = nil) -> [(name: String, json: String)] {
        var out: [(name: String, json: String)] = []
        func add(_ name: String, _ value: Double?, _ digits: Int) {
            if let value, value.isFinite { out.append((name, fixed(value, digits))) }
        }
        if stage != .idle { out.append(("stage", quoted(stage.dashboardWord))) }
        if let steps = stepsTotal, steps > 0 {
            out += [("round", "\(progress.round)"), ("step", "\(progress.step)"), ("steps", "\(steps)")]
        }
        add("left", secondsLeft(at: now), 0)
        add("tokensPerSecond", progress.tokensPerSecond, 0)
        add("validation", progress.validationLoss, 4)
        add("stepSeconds", rounds.count > 0 ? stepSeconds : nil, 4)
        add("predicted", plan?.stepSeconds, 4)
        if progress.sentBytes > 0 { out.append(("sent", "\(progress.sentBytes)")) }
        if progress.uncompressedBytes > 0 { out.append(("plain", "\(progress.uncompressedBytes)")) }
        if let plan {
            var text = "Plan \(plan.epoch): \(counted(plan.pipelines, "pipeline"))"
            if let stages { text += " of \(stages)" }
            if let steps = plan.innerSteps {
                text += ", an exchange every \(steps == 1 ? "step" : "\(steps) steps")"
                if !plan.codec.isEmpty { text += " as \(plan.codec), activations as \(plan.activations)" }
                if !plan.exchange.isEmpty { text += ", by \(plan.exchange)" }
            }
            if !plan.why.isEmpty { text += ". It was made because \(plan.why)" }
            out.append(("plan", quoted(text + ".")))
        }
        return out
    }
}
extension JobView.Stage {
    fileprivate var dashboardWord: String {
        switch self {
        case .idle: ""
        case .gathering(let have, let want): want > 0 ? "gathering: \(have) of \(want) peers" : "looking for peers"
        case .sharing: "sharing the text"
        case .measuring: "measuring links and speeds"
        case .planning: "planning"
        case .preparing: "preparing the first round"
        case .training: "training"
        case .collecting: "collecting the weights"
        case .evaluating: "computing the final loss"
        case .over(let why): "over: \(why)"
        }
    }
}

extension JobView.Member {
    /// - Parameter told: by the daemon that leads.
    package func dashboardPeer(_ told: DaemonStatus.Peer? = nil) -> DashboardFeed.Peer {
        var peer = DashboardFeed.Peer(name: name)
        (peer.doing, peer.gflops, peer.measuredGflops) = (doing, gflops, measuredGflops)
        switch standing {
        case .found: peer.standing = "found"
        case .unfit(let why): (peer.standing, peer.why) = ("unfit", why)
        case .declined(let why): (peer.standing, peer.why) = ("declined", why)
        case .joined: peer.standing = "joined"
        case .lost(let why): (peer.standing, peer.why, peer.doing) = ("lost", why, "")
        }
        guard let told else { return peer }
        if let place = told.place { (peer.rank, peer.stage, peer.stages) = (place.rank, place.stage, place.stages) }
        (peer.roundTripMilliseconds, peer.relayedBy) = (told.roundTripMilliseconds, told.relayedBy)
        peer.sentBytes = told.sentBytes
        return peer
    }
}

extension DaemonStatus.Membership {
    /// A peer knows its own job only.
    fileprivate var dashboardFields: [(name: String, json: String)] {
        var out: [(name: String, json: String)] = []
        var title = name
        if let jobName { title += " works for “\(jobName)”" }
        out.append(("title", quoted(title)))
        out.append(("stage", quoted(doing)))
        if let round, let step, let steps = work?.stepsTotal, steps > 0 {
            out += [("round", "\(round)"), ("step", "\(min(step, steps))"), ("steps", "\(steps)")]
        }
        if let validation = work?.validationLoss { out.append(("validation", fixed(validation, 4))) }
        return out
    }
    /// Itself, those next to it, and whoever it is connected to.
    fileprivate func dashboardPeers(of seen: DashboardPicture.Moment) -> [DashboardFeed.Peer] {
        var own = DashboardFeed.Peer(name: name)
        (own.isSelf, own.doing, own.sentBytes) = (true, doing, seen.sentBytes)
        (own.rank, own.stage, own.stages) = (work?.rank, work?.stage ?? 0, work?.stages ?? 0)
        return [own]
            + seen.daemon.connections.map { connection in
                var peer = DashboardFeed.Peer(name: connection.peer)
                peer.label = connection.name
                peer.roundTripMilliseconds = connection.roundTripMilliseconds
                peer.relayedBy = connection.relayedBy.map { seen.daemon.name(of: $0) ?? $0 }
                // Who is in no job with it is shown, and is none of the job's machines.
                peer.isOutside = connection.name == nil
                peer.standing = connection.peer == leader ? "coordinates" : "connected"
                return peer
            }
    }
}
