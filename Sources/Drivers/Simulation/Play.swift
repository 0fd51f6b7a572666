import Channels
import Messages
import Primitives
import Telemetry
import Wire

/// A run as a play: who said what to whom between one event and the next, and what happened. For people, and for diffs.
///
/// Messages are named by their kind and shown when they have arrived whole; between two events the same said again by the same
/// to the same is counted. The small talk that keeps leases and measures lines alive is only counted, at the end.
struct Play {
    private struct Speech: Hashable {
        var from: Int
        var to: Int
        var kind: String
    }
    private struct Pair: Hashable {
        let one: Int
        let other: Int
        init(_ a: Int, _ b: Int) { (one, other) = (min(a, b), max(a, b)) }
    }
    private let names: [String]
    private var readers: [Pair: MessageReader] = [:]
    private var scene: [(speech: Speech, times: Int)] = []
    private var place: [Speech: Int] = [:]
    private var smallTalk: [String: Int] = [:]
    private(set) var lines: [String] = []

    private static let smallTalkKinds: Set<String> = ["heartbeat", "lease", "ping", "pong", "probeBurst"]

    /// - Parameter names: of the hosts, by number.
    init(names: [String]) { self.names = names }

    /// Bytes of a connection have come to `to`.
    mutating func heard(_ bytes: [UInt8], connection: Int, from: Int, to: Int) {
        let said = readers[Pair(from, to), default: MessageReader()].read(bytes, on: connection, isForth: from < to)
        for message in said {
            let kind = Self.kind(of: message.bytes)
            if Self.smallTalkKinds.contains(kind) {
                smallTalk[kind, default: 0] += 1
                continue
            }
            let speech = Speech(from: from, to: to, kind: kind)
            if let index = place[speech] {
                scene[index].times += 1
            } else {
                place[speech] = scene.count
                scene.append((speech, 1))
            }
        }
    }

    mutating func happened(_ event: Event, at host: String) {
        endScene()
        let fields = event.fields.map { "\($0.name)=\($0.value)" }
        let words = [host + ":", event.kind, event.peer] + fields
        lines.append("\(fixed(event.at.seconds, 3))  " + words.filter { !$0.isEmpty }.joined(separator: " "))
    }

    /// The whole of it so far.
    var text: String {
        var copy = self
        copy.endScene()
        let counted = smallTalk.sorted { $0.key < $1.key }.map { "\($0.key) × \($0.value)" }
        return (copy.lines + ["Beside it: \(counted.joined(separator: ", "))"]).joined(separator: "\n") + "\n"
    }

    private mutating func endScene() {
        for (speech, times) in scene {
            let line = "        \(names[speech.from]) → \(names[speech.to]): \(speech.kind)"
            lines.append(times == 1 ? line : "\(line) × \(times)")
        }
        scene = []
        place = [:]
    }

    private static func kind(of message: [UInt8]) -> String {
        guard let packet = try? Packet(decoding: message) else { return "?" }
        guard case .logEntries(let entries) = packet.message else { return packet.message.kind }
        let kinds = entries.entries.map { envelope in
            let entry = try? envelope.open(.logEntry, job: nil, wall: nil, as: PBLogEntry.self).body.body
            return entry.flatMap { Mirror(reflecting: $0).children.first?.label } ?? "?"
        }
        return "\(packet.message.kind) (\(kinds.joined(separator: ", ")))"
    }
}
