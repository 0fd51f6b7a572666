import Daemon
import Foundation
import Node
import Primitives
import Telemetry

/// What `atoll peer` shows while it runs: on a terminal a picture in sentences below what happens; elsewhere a plain line for each thing that
/// happens, and once a minute where it is.
final class PeerScreen {
    private let asJSON: Bool
    private let onTerminal: Bool
    private var picture = Picture()
    private var saidAt = Date()

    init(asJSON: Bool) {
        self.asJSON = asJSON
        onTerminal = !asJSON && isatty(1) == 1
    }

    func show(_ event: Event) {
        defer { fflush(nil) }
        if asJSON { return print(event.json) }
        guard let sentence = event.sentence else { return }
        let line = "\(Self.clock()) \(sentence.trimmingCharacters(in: .whitespaces))"
        guard onTerminal else { return print(line) }
        for part in TerminalText.current.wrapped(line, indent: 9) { picture.say(part) }
    }
    /// Once a second.
    func show(_ status: ControlService.Status) {
        guard !asJSON else { return }
        let story = PeerStory(status: status)
        if onTerminal { return picture.draw([""] + story.screen(.current)) }
        guard Date().timeIntervalSince(saidAt) >= 60, status.daemon.member?.job != nil else { return }
        saidAt = Date()
        print("\(Self.clock()) \(escaped(story.summary))")
        fflush(nil)
    }
    func end() { if onTerminal { picture.erase() } }

    private static func clock() -> String {
        var (now, parts) = (time(nil), tm())
        localtime_r(&now, &parts)
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))"
    }
}
