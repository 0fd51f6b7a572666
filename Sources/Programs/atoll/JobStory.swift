import Daemon
import Foundation
import Node
import Primitives
import Telemetry

/// What a job is and does, in sentences, for who launched or watches it: what it is and who is in it, how far it is and how fast, what
/// it has sent, whom it lost, what is waited for, what comes next, and how to stop.
struct JobStory: Story {
    /// What is known of the job besides its events.
    struct Subject {
        var name = ""
        var parameters: Int?
        /// Whether this process is the job's launcher; else it only looks on.
        var isLauncher = false
        /// Where its result goes.
        var out = ""
        /// What ^C does, where that is not said by the rest.
        var stopping: String?
    }
    let subject: Subject
    let job: JobView
    /// Of the launcher's daemon, where this is its process.
    var status: ControlService.Status?

    /// How commands reach the launcher's daemon.
    var command = OwnCommand.plain
    /// Of the daemon that leads, where that is no process.
    var leading: DaemonStatus.Leadership?

    private var leadership: DaemonStatus.Leadership? { status?.daemon.coordinator ?? leading }
    private var elector: DaemonStatus.Election? {
        status?.daemon.elector.flatMap { $0.electors.count > 1 ? $0 : nil }
    }
    private var now: Instant { job.now }

    var told: [Paragraph] {
        [
            Paragraph(what, .members, rank: 4), Paragraph(plan, .plan, rank: 7), Paragraph(progress, .rounds, rank: 0),
            Paragraph(pace, .rounds, rank: 5), Paragraph(starved, .waiting, rank: 1), Paragraph(loss, .rounds, rank: 6),
            Paragraph(bytes, .rounds, rank: 9), Paragraph(lost, .members, rank: 3),
            Paragraph(waiting, .waiting, rank: 1),
            Paragraph(record, .job, rank: 8), Paragraph(next, .job, rank: 2),
        ].filter { !$0.text.isEmpty }.map { $0.changed(command.named) }
    }

    var howToStop: String {
        if let stopping = subject.stopping { return stopping }
        guard subject.isLauncher else { return "^C ends this screen, and changes nothing for the job." }
        if elector != nil {
            return
                "^C or closing this terminal does not end the job: other machines carry its record and go on. The same command "
                + "with --resume comes back to it."
        }
        return command.named(
            "To stop: ^C here, or `atoll leave`. Peers keep their parts for an hour: the same command with --resume goes on. "
                + "`atoll status` and `atoll watch` say more.")
    }

    /// Who is in the job, by place; then those without one.
    var rows: [StoryRow] {
        let present = job.members.filter(\.isPresent)
        var known: [String: DaemonStatus.Peer] = [:]
        for peer in leadership?.peers ?? [] { known[peer.name] = peer }
        // Without the leader's own word: in the order of the plan.
        var order: [String: Int] = [:]
        for (place, name) in (job.plan?.workers ?? []).enumerated() { order[name] = place }
        let sorted = present.enumerated().sorted { a, b in
            let (left, right) = (order[a.element.name] ?? .max, order[b.element.name] ?? .max)
            return left == right ? a.offset < b.offset : left < right
        }
        return sorted.map { _, member in
            let peer = known[member.name]
            return StoryRow(columns: [member.name, place(member, peer), path(peer), doing(member, peer)])
        }
    }

    // MARK: sentences

    private var what: String {
        var line = "Job"
        if !job.job.isEmpty { line += " \(job.job.prefix(8))…" }
        let name = subject.name.isEmpty ? leadership?.jobName ?? "" : subject.name
        if !name.isEmpty { line += " “\(name)”" }
        if let parameters = subject.parameters { line += ": a model of \(roughly(parameters)) parameters" }
        let present = job.members.count(where: \.isPresent)
        guard present > 0 else { return line + "." }
        let spare = job.plan == nil ? 0 : job.members.count { $0.isPresent && !$0.isWorking }
        line += subject.parameters == nil ? ": " : ", "
        line += "\(counted(present, "peer"))"
        if spare > 0 { line += ", \(spare) of them \(spare == 1 ? "a spare" : "spares")" }
        return line + "."
    }

    private var plan: String {
        guard let plan = job.plan else { return planInForce ?? declined }
        var line = plan.epoch > 1 ? "Plan \(plan.epoch): " : "The plan: "
        line += counted(plan.pipelines, "pipeline")
        // Which one is in force is known to whoever leads; the first one's is told in an event.
        if let stages = leadership.flatMap(\.stagesClause) {
            line += " of \(stages)"
        } else if let stages = plan.stages {
            line += stages == 1 ? " of 1 stage" : " of up to \(stages) stages"
        }
        if let steps = plan.innerSteps {
            line += ", an exchange every \(steps == 1 ? "step" : "\(steps) steps")"
            if !plan.codec.isEmpty { line += " as \(plan.codec)" }
        }
        // Its first sentence: what was advised then is done.
        if !plan.why.isEmpty { line += ", because \(Paragraph(plan.why, .plan, rank: 0).firstSentence)" }
        return line + "."
    }
    /// Of a job that this process found planned: as its leader has it.
    private var planInForce: String? {
        let places = (leadership?.peers ?? []).compactMap(\.place)
        guard let last = places.map(\.rank).max(), let stages = leadership?.stagesClause else { return nil }
        return "The plan: \(counted(last + 1, "pipeline")) of \(stages)."
    }
    private var declined: String {
        let refused = job.members.compactMap { member -> String? in
            switch member.standing {
            case .unfit(let why), .declined(let why): "\(member.name) (\(why))"
            default: nil
            }
        }
        return refused.isEmpty ? "" : "Not with us: \(shortList(refused, most: 3))."
    }

    private var progress: String {
        switch job.stage {
        case .idle: return "Nobody has been heard of yet."
        case .gathering(let have, let want):
            guard want > 0 else { return "It looks for peers." }
            return "It gathers peers: \(have) of \(want) are here."
        case .sharing(let bytes):
            let doing = job.members.filter(\.isPresent).map(\.doing)
            let isThere = !doing.isEmpty && !doing.contains { $0.isEmpty || $0.hasPrefix("text") }
            return isThere
                ? "The text (\(ByteCount(bytes))) is with all members; they measure how fast they compute."
                : "The text (\(ByteCount(bytes))) spreads among the members."
        case .measuring: return "Links and speeds are measured."
        case .planning: return "The plan is made."
        case .preparing, .training: break
        case .collecting(let have, let total):
            return "The weights come in\(total > 0 ? ": \(have) of \(total) pieces are here" : "")."
        case .evaluating: return "The final loss is computed."
        case .over(let why): return "It is over: \(why)."
        }
        let (done, total) = (job.progress.step, job.stepsTotal ?? 0)
        var line = "Round \(job.progress.round) is under way, at step \(done)"
        if total > 0 {
            let share = max(0, min(1, Double(done) / Double(total)))
            let bar = Int(20 * share)
            line += " of \(total) \(String(repeating: "█", count: bar))\(String(repeating: "·", count: 20 - bar))"
            line += " \(fixed(100 * share, 0)) %"
        }
        if !standsStill, let left = job.secondsLeft(at: now), left >= 0.5 {
            line += ", about \(ProgressView.span(left)) left"
        }
        return line + "."
    }

    /// A step as measured against the plan in force, and what that is in tokens.
    private var pace: String {
        guard job.stage == .training || job.stage == .preparing, !standsStill else { return "" }
        let predicted = job.plan?.stepSeconds
        guard job.rounds.count > 0, let measured = job.stepSeconds else {
            return predicted.map { "A step is predicted to take \(Self.seconds($0))\(Self.beyond(job))." } ?? ""
        }
        var line = "A step takes \(Self.seconds(measured))"
        if let predicted, predicted > 0 {
            let more = (measured / predicted - 1) * 100
            line += ", predicted \(Self.seconds(predicted))"
            if abs(more) >= 1, abs(more) < 10_000 {
                line += " (\(fixed(abs(more), 0)) % \(more > 0 ? "slower" : "faster"))"
            }
        }
        if job.progress.tokensPerSecond > 0 { line += "; \(grouped(whole(job.progress.tokensPerSecond))) tokens/s" }
        return line + "."
    }
    /// So long a job is hardly meant to last: whoever reads the prediction is told why it is so.
    private static let absurd = 60.0 * 86_400
    /// Of a prediction that nobody can have meant: what it amounts to, and whose speed it comes from; empty of others.
    static func beyond(_ job: JobView) -> String {
        let total = job.plan?.totalSeconds ?? job.secondsLeft(at: job.now) ?? 0
        guard total > absurd else { return "" }
        let slow = job.members.filter { $0.isPresent && $0.processorPercent != nil }.map(\.name)
        let why =
            slow.isEmpty
            ? "a job so large wants more or faster peers, a smaller model, or fewer tokens (train.tokens)"
            : "other programs take the processor of \(shortList(slow, most: 3)), and the prediction is of what they leave"
        return ", \(ProgressView.span(total)) in all: \(why)"
    }
    /// Whose processor other programs take.
    private var starved: String {
        let slow = job.members.filter { $0.isPresent && processorPercent($0) != nil }
        guard !slow.isEmpty else { return "" }
        let each = slow.map { "\($0.name) (\(Self.percent(processorPercent($0) ?? 0)) left)" }
        return
            "Other programs take the processor of \(shortList(each, most: 5)), of what \(slow.count == 1 ? "it asks" : "they ask") for: the job goes as fast as that allows."
    }
    /// Of the processor time that a member asks for, what others leave it: as it says now, where that is known here; else as it was told last.
    private func processorPercent(_ member: JobView.Member) -> Double? {
        guard let leadership else { return member.processorPercent }
        return leadership.peers.first { $0.name == member.name }?.processorPercent
    }
    private static func percent(_ value: Double) -> String { "\(fixed(value, value < 10 ? 1 : 0)) %" }
    private static func seconds(_ value: Double) -> String { "\(fixed(value, value < 10 ? 2 : 1)) s" }

    private var loss: String {
        // Where compute is only charged there is none.
        guard let loss = job.progress.trainLoss, loss != 0 else { return "" }
        let curve = ProgressView.sparkline(of: job.lossCurve.points)
        var line = "The loss is \(fixed(loss, 3))" + (curve.isEmpty ? "" : " \(curve)")
        if let validation = job.progress.validationLoss { line += ", validation \(fixed(validation, 3))" }
        return line + "."
    }

    private var bytes: String {
        let (sent, plain) = (job.progress.sentBytes, job.progress.uncompressedBytes)
        // While they only meet, greetings are all that goes.
        if case .gathering = job.stage { return "" }
        guard sent > 0 else { return "" }
        let all = "Its members have sent \(ByteCount(sent)) in all"
        // One pipeline alone exchanges nothing.
        guard plain > 0 else { return all + "." }
        return
            "\(all): text, weights, activations and exchanges. To exchange fp32 gradients in every step would take \(ByteCount(plain)) alone."
    }

    private var lost: String {
        guard let loss = job.losses.last else { return "" }
        var line = job.losses.count > 1 ? "\(job.losses.count) peers left or were lost; the last: " : ""
        line += "\(loss.peer), \(ProgressView.span(max(0, (now - loss.at).inSeconds))) ago (\(loss.why))"
        switch loss.answer {
        case .none: break
        case .replaced(let spare): line += "; \(spare) took the place"
        case .othersGoOn(let pipelines):
            line += pipelines == 1 ? "; the other pipeline went on" : "; the others went on"
        case .rolledBack(let round): line += "; the job went back to round \(round)"
        }
        if !standsStill, let seconds = loss.resumedAfter { line += ", training after \(fixed(seconds, 1)) s" }
        return (job.losses.count > 1 ? line : (loss.saidGoodbye ? "Left: " : "Lost: ") + line) + "."
    }

    /// Nobody works on: it waits for somebody who has what it goes on from.
    private var standsStill: Bool { job.waiting?.peers.isEmpty == true && job.stage == .training }
    private var waiting: String {
        if let no = status?.daemon.turnedAway { return no.sentence }
        if status?.daemon.overlay.isJoined == false { return "Nobody of its pool answers yet; it keeps trying." }
        guard let waiting = job.waiting else { return "" }
        let since = max(0, (now - waiting.since).inSeconds)
        let whom = waiting.peers.isEmpty ? "" : " for \(shortList(waiting.peers, most: 3))"
        return "It waits\(whom) for \(ProgressView.span(since)) now: \(waiting.why)."
    }

    private var record: String {
        guard let elector else { return "" }
        let leader =
            elector.isLeader
            ? "this one coordinates the job"
            : elector.leader.map { "\($0) coordinates the job" } ?? "nobody coordinates the job just now"
        let near = elector.electors.count(where: \.isConnected)
        return "\(elector.electors.count) machines carry its record, \(near) of them are connected: \(leader)."
    }

    private var next: String {
        let collected = "the weights are collected" + (subject.out.isEmpty ? "" : " into \(subject.out)")
        switch job.stage {
        case .idle, .gathering:
            return "Next: when peers enough are here, the text is shared and links and speeds are measured."
        case .sharing: return "Next: links and speeds are measured."
        case .measuring: return "Next: the plan is made."
        case .planning: return "Next: the peers get their places, and the first round begins."
        case .collecting: return "Next: the final loss is computed, over the whole validation part."
        case .evaluating: return "Next: the checkpoint and the report are written."
        case .over: return ""
        case .preparing, .training: break
        }
        guard !standsStill else {
            return
                "Next: it goes on when whoever is missing is back, or another comes who can take the place; else it goes back to the newest round that can be had, or ends, and says so."
        }
        guard let step = job.stepSeconds, let steps = job.plan?.innerSteps else {
            return "Next: the round is sealed; in the end \(collected)."
        }
        let since = job.rounds.last.map { (now - $0.at).inSeconds } ?? 0
        let due = step * Double(steps) - since
        let seal = job.rounds.last == nil || due < 1 ? "soon" : "in about \(ProgressView.span(due))"
        return "Next: round \(job.progress.round) is sealed \(seal); after the last step \(collected)."
    }

    // MARK: members

    private func place(_ member: JobView.Member, _ peer: DaemonStatus.Peer?) -> String {
        if let place = peer?.place {
            return "stage \(place.stage + 1) of \(place.stages) in pipeline \(place.rank + 1)"
        }
        if let peer, peer.doing == "spare" { return "spare" }
        guard job.plan != nil || leadership?.stagesClause != nil else { return "" }
        return member.isWorking ? "" : "spare"
    }
    private func path(_ peer: DaemonStatus.Peer?) -> String {
        guard let peer else { return "" }
        guard peer.isConnected else { return "not connected" }
        let time = peer.roundTripMilliseconds.map { "\(fixed($0, $0 < 10 ? 1 : 0)) ms" }
        guard let relay = peer.relayedBy else { return time.map { "direct, \($0)" } ?? "direct" }
        return "relayed by \(relay)" + (time.map { ", \($0)" } ?? "")
    }
    private func doing(_ member: JobView.Member, _ peer: DaemonStatus.Peer?) -> String {
        guard let peer, peer.silentSeconds > 3 else {
            return member.doing == "spare" ? "" : member.doing
        }
        return "silent for \(fixed(peer.silentSeconds, 0)) s"
    }
}
