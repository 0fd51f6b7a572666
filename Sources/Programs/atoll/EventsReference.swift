import ArgumentParser
import Telemetry

/// `atoll events-reference`: docs/EVENTS.md as the types have it; `make events` writes it.
struct EventsReference: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events-reference", abstract: "Print the reference of events.", shouldDisplay: false)

    func run() { print(EventReference.markdown, terminator: "") }
}
