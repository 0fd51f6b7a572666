import Daemon
import Foundation
import Node
import Primitives
import Telemetry

/// What `atoll peer` shows while it runs: on a terminal a picture in sentences below what happens; elsewhere a plain line for each thing that
/// happens, and once a minute where it is.
final class PeerScreen {
    private let log: EventLog
    private let onTerminal: Bool
    private var picture = Picture()
    private var saidAt = Date()
    private let command: OwnCommandWatch
    /// Whether it was said that nothing moves.
    private var isStill = false

    /// - Parameter folder: the daemon's.
    init(_ log: EventLog, folder: String) {
        self.log = log
        command = OwnCommandWatch(folder: folder)
        onTerminal = !log.asJSON && isatty(1) == 1
    }

    func show(_ event: Event) {
        guard let line = log.line(event) else { return }
        if log.asJSON { return log.say(line, event.level) }
        guard onTerminal else {
            return log.say("\(clockTime()) \(line.trimmingCharacters(in: .whitespaces))", event.level)
        }
        picture.tell(line)
        fflush(nil)
    }
    /// Once a second.
    func show(_ status: ControlService.Status) {
        guard !log.asJSON else { return }
        let story = PeerStory(status: status, command: command.now)
        if onTerminal { return picture.draw(story) }
        let isStill = !story.standstill.isEmpty
        if isStill, !self.isStill { log.say("\(clockTime()) \(escaped(story.standstill))", .warning) }
        self.isStill = isStill
        guard Date().timeIntervalSince(saidAt) >= 60, status.daemon.member?.job != nil else { return }
        saidAt = Date()
        log.say("\(clockTime()) \(escaped(story.summary))")
    }
    func end() { if onTerminal { picture.end() } }
}
