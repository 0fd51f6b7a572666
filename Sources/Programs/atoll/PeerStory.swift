import Daemon
import Foundation
import Lending
import Node
import Primitives
import Telemetry

/// What a peer is and does, in sentences, for its owner: who it is, for whom it works and why, how far that is, what it has given, whom it
/// talks to, what its limits say, what is waited for, what comes next, and how to stop.
struct PeerStory: Story {
    let status: ControlService.Status
    /// How commands reach its daemon.
    var command = OwnCommand.plain
    private var member: DaemonStatus.Membership? { status.daemon.member }

    var told: [Paragraph] {
        guard let member else { return [] }
        let isKept = status.limits?.reasons.isEmpty == false || status.processor?.isTaken == true
        let parts = [
            Paragraph(who(member), .machine, rank: 7), Paragraph(job(member), .job, rank: 5),
            Paragraph(place(member), .place, rank: 8), Paragraph(progress(member), .rounds, rank: 4),
            Paragraph(given(member), .rounds, rank: 3), Paragraph(waiting(member), .waiting, rank: 0),
            Paragraph(lines, .connections, rank: 9), Paragraph(limits, .limits, rank: isKept ? 1 : 6),
            Paragraph(next(member), .job, rank: 2),
        ]
        return parts.filter { !$0.text.isEmpty }.map { $0.changed(command.named) }
    }
    /// That nothing moves in its job, where that is so.
    var standstill: String { member.flatMap(standstill) ?? "" }
    /// Where its job is, and what it has given: for a line once a minute.
    var summary: String {
        member.map { [progress($0), given($0)].filter { !$0.isEmpty }.joined(separator: " ") } ?? ""
    }
    var howToStop: String {
        let stop = command.named("To stop: ^C here, or `atoll leave`.")
        return command.choice == nil
            ? stop + " `atoll drain` lets the round end first, `atoll pause` stops for a while, `atoll why` says more."
            : stop + " So do `drain`, which lets the round end first, and `pause`, for a while; `atoll why` says more."
    }

    private func who(_ member: DaemonStatus.Membership) -> String {
        let named = "\(member.name) (key \(status.daemon.id.prefix(8))…)"
        let lasting = ProgressView.span(status.uptimeSeconds)
        guard member.computes != false else {
            return
                "\(named) has been a node of its pool for \(lasting). It carries records of jobs that several electors carry."
        }
        let memory = ByteCount.mebibytes(member.memoryMebibytes)
        // What was given is for the program, too.
        let given = status.limits?.values.first { $0.key == LimitKey.memory.rawValue }.flatMap { Double($0.value) }
        let of =
            given.map { ByteCount.mebibytes($0) }.flatMap { $0.bytes > memory.bytes ? " of the \($0) given" : nil }
            ?? " of memory"
        return "\(named) has lent this machine for \(lasting): \(memory)\(of) are for jobs."
    }
    private func job(_ member: DaemonStatus.Membership) -> String {
        guard let job = member.job else {
            guard member.computes != false else { return "It has no job's record to carry at the moment." }
            guard member.state == .free, status.daemon.turnedAway == nil else { return "It has no job." }
            return member.accepts.isEmpty
                ? "It has no job, and will have none: it accepts no launcher. `--accept KEY` names one."
                : "It has no job. It waits for an offer of \(shortList(member.accepts, most: 3)), whom you accept."
        }
        let launcher = member.launcher ?? member.leader
        var line =
            "It works for job \(job.prefix(8))… “\(member.jobName ?? "")” of \(launcher ?? "?"), because you accept its launcher"
        if let leader = member.leader, leader != launcher {
            line +=
                "; \(status.daemon.id.hasPrefix(leader) ? "this machine" : status.daemon.name(of: leader) ?? leader) coordinates it"
        }
        if let work = member.work { line += ": a model of \(roughly(work.parameters)) parameters" }
        return line + "."
    }
    private func place(_ member: DaemonStatus.Membership) -> String {
        guard let work = member.work else { return "" }
        guard let rank = work.rank, let stage = work.stage, let stages = work.stages else {
            return member.computes == false
                ? "It carries the job's record with others, and computes nothing."
                : "It is a spare: it holds nothing, and takes over when somebody leaves."
        }
        var line = "It is stage \(stage + 1) of \(stages) in pipeline \(rank + 1)"
        if let units = member.units, units.count == 2 {
            line += " and holds \(Event.words(units: units[0]..<max(units[0], units[1]))) of the model"
        }
        if let before = work.before { line += ", after \(before)" }
        if let after = work.after { line += "\(work.before == nil ? ", " : " and ")before \(after)" }
        return line + "."
    }
    private func progress(_ member: DaemonStatus.Membership) -> String {
        guard member.job != nil, let round = member.round, let step = member.step else { return "" }
        guard member.work != nil || round > 0 else {
            return
                "There is no plan yet: the text spreads, links and speeds are measured, and then layers are given out."
        }
        // What a spare is at is said already.
        let isSpare = member.work.map { $0.rank == nil } ?? false
        let all = member.work?.stepsTotal.map { $0 > 0 ? " of \($0)" : "" } ?? ""
        var line =
            "Round \(round) is under way, at step \(step)\(all)\(isSpare ? "" : ": \(Self.inRound(member.doing))")."
        guard let work = member.work else { return line }
        if let last = work.roundSeconds {
            line += " The last round took \(fixed(last, 1)) s"
            if let usual = work.usualRoundSeconds { line += "; \(fixed(usual, 1)) s were usual before" }
            line += "."
        }
        if let loss = work.trainLoss {
            line +=
                " The loss is \(fixed(loss, 3))" + (work.validationLoss.map { ", validation \(fixed($0, 3))." } ?? ".")
        }
        guard work.tokensTotal > 0 else { return line }
        guard work.tokens < work.tokensTotal else { return line + " All of the training is done." }
        line += " \(fixed(100 * Double(work.tokens) / Double(work.tokensTotal), 0)) % of the training is done"
        if let left = secondsLeft(work) { line += ", and about \(ProgressView.span(left)) are left" }
        return line + "."
    }
    /// “step 2/20” of a round, where steps of the job are told beside it.
    private static func inRound(_ doing: String) -> String {
        guard doing.hasPrefix("step "), let slash = doing.firstIndex(of: "/") else { return doing }
        return "the round's \(doing[..<slash]) of \(doing[doing.index(after: slash)...])"
    }
    private func secondsLeft(_ work: DaemonStatus.Work) -> Double? {
        guard let seconds = work.usualRoundSeconds ?? work.roundSeconds, let round = member?.round, round > 0,
            work.tokens > 0
        else { return nil }
        return Double(work.tokensTotal - work.tokens) / (Double(work.tokens) / Double(round)) * seconds
    }
    private func given(_ member: DaemonStatus.Membership) -> String {
        guard let all = member.work?.microBatches else {
            return givenBefore
        }
        let ended = all.counted + all.late + all.lost + all.superseded
        guard ended > 0 else {
            let first =
                all.underWay > 0
                ? "Its first \(counted(all.underWay, "micro-batch", "micro-batches")) of this job are under way." : ""
            return [first, givenBefore].filter { !$0.isEmpty }.joined(separator: " ")
        }
        return Self.given(ended, all.counted, all.late, all.lost, all.superseded, to: nil)
    }
    /// To all jobs whose logs are here.
    private var givenBefore: String {
        guard let before = status.given, before.ended > 0 else { return "" }
        return Self.given(
            before.ended, before.counted, before.late, before.lost, before.superseded, to: before.jobs)
    }
    /// - Parameter jobs: that are over; nil: of the one in progress.
    private static func given(
        _ ended: Int, _ counted: Int, _ late: Int, _ lost: Int, _ superseded: Int, to jobs: Int?
    ) -> String {
        var line = "You have given \(grouped(ended)) \(ended == 1 ? "micro-batch" : "micro-batches")"
        if let jobs { line += " to \(jobs) \(jobs == 1 ? "job" : "jobs")" }
        line += ": \(grouped(counted)) count"
        if late > 0 { line += ", \(grouped(late)) came too late" }
        if lost > 0 { line += ", \(grouped(lost)) were lost with somebody who left" }
        if superseded > 0 { line += ", \(grouped(superseded)) were superseded" }
        return line + " (`atoll receipts`)."
    }
    private func waiting(_ member: DaemonStatus.Membership) -> String {
        if let no = status.daemon.turnedAway { return no.sentence }
        // Whoever knows some of its pool has been answered: it says how many further down.
        if !status.daemon.overlay.isJoined, status.daemon.overlay.contacts == 0 {
            return "Nobody of its pool answers yet; it keeps trying."
        }
        if let refused = member.refusedRefounding {
            return "Job \(refused.job.prefix(8))… was founded anew after \(refused.entries) entries of its log, and "
                + "\(refused.certified) are certified here: it waits for your word. `atoll peer --accept-refound \(refused.job.prefix(8))` follows."
        }
        if member.state == .waiting {
            let since = member.unheardSeconds.map { " for \(ProgressView.span($0))" } ?? " for a while"
            if member.isLeaderStopped == true {
                return
                    "\(sentenceStart(coordinator(member))) has stopped the job\(member.unheardSeconds.map { " \(ProgressView.span($0)) ago" } ?? "") for now: it computes nothing meanwhile, and keeps its part of the job for an hour."
            }
            return
                "Nothing has been heard of \(coordinator(member))\(since): it computes nothing meanwhile, and keeps its part of the job for an hour."
        }
        if let still = standstill(member) { return still }
        if member.isLeaderConnected == false {
            return "There is no connection to \(coordinator(member)) at the moment; it works on."
        }
        return ""
    }
    private func sentenceStart(_ text: String) -> String { text.prefix(1).uppercased() + text.dropFirst() }
    /// Who leads its job, for people.
    private func coordinator(_ member: DaemonStatus.Membership) -> String {
        guard let leader = member.leader else { return "the job's coordinator" }
        return leader == member.launcher
            ? "the launcher of the job (\(leader))"
            : "\(status.daemon.name(of: leader) ?? leader), who coordinates the job,"
    }
    /// That nothing moves, since when, and for whom that waits; nil while its owner keeps it from working, which is said elsewhere.
    private func standstill(_ member: DaemonStatus.Membership) -> String? {
        guard let still = member.standstill, status.limits.map({ $0.mode == .work || $0.mode == .drain }) ?? true else {
            return nil
        }
        let line = "Nothing has moved here for \(ProgressView.span(still.seconds)): it waits for "
        if still.waitsFor == ["self"] { return line + still.what + "." }
        guard !still.waitsFor.isEmpty else { return line + still.what + "." }
        return line + shortList(still.waitsFor, most: 3) + " (" + still.what + ")."
    }
    private var lines: String {
        let (overlay, all) = (status.daemon.overlay, status.daemon.connections)
        var line = "It knows \(counted(overlay.contacts, "node", "nodes")) of its pool"
        if !overlay.isReachable { line += "; nobody reaches it from outside" }
        if !overlay.berths.isEmpty { line += " but through \(shortList(overlay.berths, most: 3))" }
        let peers = all.map { one in
            let about = [
                one.roundTripMilliseconds.map { "\(fixed($0, 0)) ms" },
                one.relayedBy.map { "relayed by \(status.daemon.name(of: $0) ?? $0)" },
            ].compactMap { $0 }
            return (status.daemon.name(of: one.peer) ?? one.peer)
                + (about.isEmpty ? "" : " (\(about.joined(separator: ", ")))")
        }
        line += peers.isEmpty ? ". It is connected to nobody." : ". It is connected to \(shortList(peers, most: 5))."
        if let forwarding = overlay.forwarding { line += " " + ForwardingText.sentence(forwarding) }
        return line + " \(ByteCount(status.sentBytes)) went out, \(ByteCount(status.receivedBytes)) came in."
    }
    private var limits: String {
        guard let limits = status.limits else { return "" }
        let said = LimitText.brief(limits, hasJob: member?.job != nil)
        let bites = !limits.reasons.isEmpty
        return ((bites ? [] : [processor ?? "No limit keeps it from working (`atoll limits`)."]) + said).joined(
            separator: " ")
    }
    /// What other programs leave it, where that is little or not known.
    private var processor: String? {
        guard let had = status.processor else { return nil }
        if let why = had.unseen {
            return
                "No limit keeps it from working (`atoll limits`); whether other programs take the processor cannot be seen (\(why))."
        }
        guard had.isTaken, let over = had.overSeconds, let asked = had.askedSeconds, let got = had.hadSeconds else {
            return nil
        }
        let wanted = status.limits?.values.first { $0.key == LimitKey.priority.rawValue }?.value
        let yields =
            status.limits?.isLowestPriority != true
            ? ""
            : wanted == OwnerLimits.Priority.normal.rawValue
                ? " It gives way to them while a sensor cannot be seen (`atoll limits`)."
                : " It gives way to them (`atoll limits set priority normal` has it compete)."
        return
            "No limit keeps it from working, and other programs of this machine take the processor: in the last \(ProgressView.span(over)) it asked for "
            + "\(fixed(asked, asked < 10 ? 1 : 0)) s of it and had \(fixed(got, got < 10 ? 1 : 0)) s.\(yields)"
    }
    private func next(_ member: DaemonStatus.Membership) -> String {
        switch status.limits?.mode {
        case .hold?: return "Next: it goes on where it stands when that is over; if it lasts, others take its place."
        case .drain? where member.job != nil: return Self.leaving
        case .away? where member.state == .leaving: return Self.yielding
        case .drain?, .away?: return "Next: it takes offers again when that is over."
        case .work?, nil: break
        }
        switch member.state {
        case .paused: return "Next: nothing, until `atoll resume`."
        case .leaving: return Self.leaving
        case .free where status.daemon.turnedAway?.code == "POOL-004":
            return "Next: nothing. `atoll leave` ends it; `atoll identity` and a new invite begin anew."
        case .free where status.daemon.turnedAway != nil: return "Next: it asks again, ever more rarely."
        case .free where member.computes == false:
            return "Next: it carries the record of a job that asks for several electors."
        case .free: return member.accepts.isEmpty ? "" : "Next: it begins with the first offer."
        case .waiting:
            return member.refusedRefounding == nil
                ? "Next: it goes on when its coordinator is heard again; after an hour it takes other offers."
                : "Next: nothing, until you say that it may follow."
        case .working where standstill(member) != nil:
            return
                "Next: it goes on when that is here, or when its coordinator has planned without it; it keeps its part."
        case .working where (member.work.map { $0.tokens >= $0.tokensTotal && $0.tokensTotal > 0 } ?? false):
            return "Next: whoever launched the job collects the result; until then it keeps its part."
        case .working: return "Next: it goes on until the job ends, and keeps what it needs to go on after a restart."
        }
    }

    private static let yielding =
        "Next: it gives what it alone holds to whoever takes its place, which costs the processor next to nothing, and takes offers again when that is over."
    private static let leaving =
        "Next: when the round is over it leaves the job; what nobody else holds it gives to whoever takes its place, which takes one round more."

    private func counted(_ count: Int, _ one: String, _ many: String) -> String {
        "\(grouped(count)) \(count == 1 ? one : many)"
    }
}
