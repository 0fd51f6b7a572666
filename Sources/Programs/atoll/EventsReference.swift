import ArgumentParser
import Foundation
import Node
import Primitives
import Telemetry

/// `atoll events-reference`: docs/EVENTS.md as the types have it; `make events` writes it.
struct EventsReference: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events-reference", abstract: "Print the reference of events.", shouldDisplay: false)

    @Flag(help: "A sample of each kind, with its level and how it is said, as JSON lines.") var samples = false

    func run() throws {
        guard samples else { return print(EventReference.markdown, terminator: "") }
        for sample in Happening.samples {
            let event = Event(sample, at: .zero, peer: "somebody")
            let object = [
                "name": sample.name.rawValue, "level": event.level.word, "sentence": event.sentence ?? "",
                "json": event.json,
            ]
            print(
                String(
                    decoding: try JSONSerialization.data(withJSONObject: object, options: .sortedKeys), as: UTF8.self))
        }
    }
}
