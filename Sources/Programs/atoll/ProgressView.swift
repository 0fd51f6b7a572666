import Foundation
import Node
import Primitives
import Telemetry

/// Live progress for people: on a terminal a small picture that is redrawn, elsewhere a line for each thing that happens. What it
/// shows is in a ``JobView``, folded from the events it is handed.
final class ProgressView {
    enum Style {
        /// A pool's job: peers, rounds, and what becomes of them.
        case pool
        /// A job in this process: one line of figures.
        case local
    }
    private(set) var job = JobView()
    private let style: Style
    private let quiet: Bool
    private let log: EventLog
    private let onTerminal: Bool
    private var subject: JobStory.Subject
    /// Of the launcher's daemon, where it tells.
    private var status: ControlService.Status?
    private var picture = Picture()
    private var lastLine = Date.distantPast
    /// What is told happened before this screen began, nobody says when: until it is told how the job stands now.
    private var readsHistory: Bool
    /// Of a launcher.
    private let command: OwnCommandWatch?
    /// What takes its time outside of training: since when, and from how much on.
    private var pending: (stage: String, since: Instant, have: Int)?

    /// - Parameters:
    ///   - log: which events are told.
    ///   - subject: what a screen says of the job besides what its events tell.
    ///   - folder: of the launcher's daemon.
    ///   - readsHistory: whether what happened before is told first.
    init(
        _ style: Style = .pool, quiet: Bool, log: EventLog = EventLog(), subject: JobStory.Subject = .init(),
        folder: String? = nil, readsHistory: Bool = false
    ) {
        self.readsHistory = readsHistory
        command = folder.map { OwnCommandWatch(folder: $0) }
        self.style = style
        self.quiet = quiet
        self.log = log
        self.subject = subject
        onTerminal = isatty(1) == 1
    }

    func show(_ event: Event) {
        job.apply(event)
        if case .status = event.what { readsHistory = false }
        guard !quiet else { return }
        switch (style, event.what) {
        case (.local, .status): if onTerminal || log.level >= .info { showFigures() }
        case (.local, _): break
        case (.pool, .status): if onTerminal { if status == nil { draw() } } else { showStage() }
        // The picture says it.
        case (.pool, .waitingForPeers) where onTerminal: break
        case (.pool, .roundSealed): if !onTerminal, let round = job.rounds.last { say(Self.line(round)) }
        case (.pool, .planned):
            if let line = log.line(event) { say(line + JobStory.beyond(job), event.level) }
        case (.pool, _): if let line = log.line(event) { say(line, event.level) }
        }
        // Nobody tells each second any more how the job stands.
        if style == .pool, onTerminal, job.stage == .evaluating { draw() }
    }

    /// Once a second, after the events: what the launcher's daemon is and does.
    func show(_ status: ControlService.Status) {
        self.status = status
        if onTerminal, !quiet { draw() }
    }

    // MARK: what there is to see

    private func draw() {
        picture.draw(JobStory(subject: subject, job: job, status: status, command: command?.now ?? .plain))
    }

    /// Where there is no terminal: a word every ten seconds on what is not told round by round.
    private func showStage() {
        if job.stage == .training || job.stage == .preparing { return pending = nil }
        guard let (word, line) = stageLine else { return pending = nil }
        if pending?.stage != word { pending = (word, job.now, have) }
        guard (job.now - pending!.since).inSeconds > 2, Date().timeIntervalSince(lastLine) >= 10 else { return }
        lastLine = Date()
        let doing = members.prefix(8).map { $0.split(separator: " ").joined(separator: " ") }
        say("  " + line + (doing.isEmpty ? "" : ": " + doing.joined(separator: "; ")))
    }
    private var have: Int { if case .collecting(let have, _) = job.stage { have } else { 0 } }
    /// Nil where there is nothing to wait for, or somebody is waited for who is not here yet.
    private var stageLine: (word: String, line: String)? {
        switch job.stage {
        case .sharing(let bytes): return ("sharing", "sharing the text (\(ByteCount(bytes)))")
        case .measuring: return ("measuring", "measuring links and speeds")
        case .planning: return ("planning", "planning")
        case .collecting(let have, let total):
            guard total > 0 else { return ("collecting", "collecting the weights") }
            var line = "collecting the weights: \(have) of \(total) pieces"
            if let pending, pending.stage == "collecting", have > pending.have {
                let each = (job.now - pending.since).inSeconds / Double(have - pending.have)
                line += "  about \(Self.span(each * Double(total - have))) left"
            }
            return ("collecting", line)
        default: return nil
        }
    }

    private func showFigures() {
        let progress = job.progress
        guard Date().timeIntervalSince(lastLine) > (onTerminal ? 0.2 : 5) || progress.step == progress.stepsTotal else {
            return
        }
        lastLine = Date()
        var line = "step \(progress.step)/\(progress.stepsTotal)  "
        line += "loss \(fixed(progress.trainLoss ?? 0, 3)) \(Self.sparkline(of: job.lossCurve.points))"
        if let validation = job.rounds.last?.validationLoss { line += "  validation \(fixed(validation, 3))" }
        line += "  \(grouped(whole(progress.tokensPerSecond))) tokens/s"
        if onTerminal { picture.draw([line]) } else { print(line) }
        fflush(nil)
    }

    /// The parameters a round begins with are evaluated in it; not in every round where a round is one step.
    private static func line(_ round: JobView.Round) -> String {
        var line = "round \(round.round)  step \(round.stepsDone)  loss \(fixed(round.trainLoss, 3))  "
        if let validation = round.validationLoss { line += "validation before it \(fixed(validation, 3))  " }
        line += "\(round.pipelines) \(round.pipelines == 1 ? "pipeline" : "pipelines")"
        if round.seconds > 0 { line += "  \(fixed(round.seconds, 1)) s" }
        if let predicted = round.predictedSeconds { line += ", predicted \(fixed(predicted, 1))" }
        return line
    }

    private var members: [String] {
        job.members.filter { $0.isPresent && !$0.doing.isEmpty }.map { member in
            escaped("  \(member.name.padding(toLength: 14, withPad: " ", startingAt: 0)) \(member.doing)")
        }
    }

    /// "40 s", "12 min", "3.5 h": as exact as a guess deserves.
    static func span(_ seconds: Double) -> String {
        if seconds < 90 { return "\(fixed(seconds, 0)) s" }
        if seconds < 5400 { return "\(fixed(seconds / 60, 0)) min" }
        return seconds < 172_800 ? "\(fixed(seconds / 3600, 1)) h" : "\(fixed(seconds / 86400, 0)) days"
    }

    /// At most 24 marks, the lowest value the lowest one; empty where all are equal.
    static func sparkline(of points: [Double]) -> String {
        let marks = Array("▁▂▃▄▅▆▇█")
        let points = points.filter(\.isFinite)
        let recent = points.count > 24 ? (0..<24).map { points[$0 * (points.count - 1) / 23] } : points
        guard let low = recent.min(), let high = recent.max(), high > low, (high - low).isFinite else { return "" }
        return String(recent.map { marks[Int(($0 - low) / (high - low) * 7)] })
    }

    // MARK: the terminal

    private func say(_ line: String, _ level: LogLevel = .info) {
        guard onTerminal else {
            return log.say(readsHistory ? "earlier: " + line.trimmingCharacters(in: .whitespaces) : line, level)
        }
        if level <= log.level { picture.tell(line, at: readsHistory ? "earlier " : clockTime()) }
        fflush(nil)
    }
    func end() { if onTerminal { picture.end() } }
}

/// The nearest whole number; 0 for what is none.
func whole(_ number: Double) -> Int { Int(exactly: number.rounded()) ?? 0 }

/// 12345 as "12 345".
func grouped(_ number: Int) -> String {
    var digits = String(number.magnitude)
    var out = ""
    while digits.count > 3 {
        out = " " + digits.suffix(3) + out
        digits.removeLast(3)
    }
    return (number < 0 ? "-" : "") + digits + out
}
