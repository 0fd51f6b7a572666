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
        guard onTerminal else { return print("\(clockTime()) \(sentence.trimmingCharacters(in: .whitespaces))") }
        picture.tell(sentence)
    }
    /// Once a second.
    func show(_ status: ControlService.Status) {
        guard !asJSON else { return }
        let story = PeerStory(status: status)
        if onTerminal { return picture.draw(story) }
        guard Date().timeIntervalSince(saidAt) >= 60, status.daemon.member?.job != nil else { return }
        saidAt = Date()
        print("\(clockTime()) \(escaped(story.summary))")
        fflush(nil)
    }
    func end() { if onTerminal { picture.erase() } }
}
