import Foundation
import Node
import Primitives
import Telemetry
import Testing

/// Events as lines of JSON, as `--json` writes them and the demo reads them.
struct EventJSONTests {
    @Test func `every event comes back from its line`() throws {
        for sample in Happening.samples {
            let event = Event(sample, at: Instant(seconds: 2.25), peer: "ada \"the\" first\n\u{202E}é")
            #expect(Event(json: event.json) == event, "\(event.json)")
            let object = try JSONSerialization.jsonObject(with: Data(event.json.utf8)) as? [String: Any]
            #expect(object?["kind"] as? String == event.kind)
        }
        let large = Event(.textComplete(bytes: .max), at: .zero)
        #expect(Event(json: large.json) == large)
        let unknown = Event(
            .roundSealed(round: 1, steps: 2, tokens: 3, trainLoss: 0.1, pipelines: 2, seconds: 12), at: .zero)
        #expect(Event(json: unknown.json) == unknown)
    }

    @Test func `a line holds nothing that a terminal obeys`() {
        let event = Event(.peerLost(why: "a\u{1B}[2J\u{7F}\u{9B}\u{202E}\u{E0041}z\r\n"), at: .zero, peer: "\u{8}")
        #expect(
            event.json
                == #"{"at_s":0.000000,"kind":"peer_lost","peer":"\u0008","why":"a\u001b[2J\u007f\u009b\u202e\udb40\udc41z\r\n","said_goodbye":"no"}"#
        )
        #expect(Event(json: event.json) == event)
    }

    @Test(arguments: [
        "", "{}", "[]", "null", "{\"kind\":\"peer_joined\"}", "{\"at_s\":1}",
        "{\"at_s\":\"1\",\"kind\":\"peer_joined\"}",
        "{\"at_s\":1,\"kind\":\"no_such_thing\"}", "{\"at_s\":1e300,\"kind\":\"peer_joined\"}",
        "{\"at_s\":1,\"kind\":\"peer_lost\"}", "{\"at_s\":1,\"kind\":\"peer_lost\",\"why\":3}",
        "{\"at_s\":1,\"kind\":\"planning\",\"why\":\"x\",\"peers\":1.5}",
        "{\"at_s\":1,\"kind\":\"planning\",\"why\":\"x\",\"peers\":1e30}",
    ])
    func `what is no event is not read as one`(line: String) {
        #expect(Event(json: line) == nil)
    }
}
