import ArgumentParser
import Digests
import EventLoop
import Foundation
import Kademlia
import Node
import Primitives

/// `atoll node --commands`: the tools on the running node itself, one a line of standard input, each answered by one JSON
/// line, in order. For scripts that ask much: no process for each question, and the questions come from a citizen.
final class NodeConsole: @unchecked Sendable {
    private let daemon: LiveDaemon
    private let poolKey: [UInt8]?
    private let identity: SigningKey
    private var waiting: [[String]] = []
    private var current: (steps: OverlaySteps, done: [LookupOutcome], request: RequestID)?

    init(_ daemon: LiveDaemon, poolKey: [UInt8]?, identity: SigningKey) {
        self.daemon = daemon
        self.poolKey = poolKey
        self.identity = identity
        daemon.onFound = { [unowned self] request, outcome in found(request, outcome) }
    }

    /// Reads on a thread of its own; the end of the input changes nothing.
    func start() {
        let loop = daemon.loop
        let thread = Foundation.Thread { [self] in
            Self.readLines { line in
                let words = Self.words(line)
                if !words.isEmpty { loop.post { self.take(words) } }
            }
        }
        thread.start()
    }

    /// Not through the C library's stream: a thread that waits in it holds a lock that flushing output wants too.
    private static func readLines(_ body: (String) -> Void) {
        var pending: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(STDIN_FILENO, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            pending += buffer[..<count]
            while let end = pending.firstIndex(of: 10) {
                body(String(decoding: pending[..<end], as: UTF8.self))
                pending.removeSubrange(...end)
            }
            // Nothing that is asked is longer.
            if pending.count > 1 << 16 { pending = [] }
        }
        if !pending.isEmpty { body(String(decoding: pending, as: UTF8.self)) }
    }

    /// Words are separated by blanks; quotation marks keep blanks together.
    static func words(_ line: String) -> [String] {
        var out: [String] = []
        var word: String?
        var quote: Character?
        for letter in line {
            if let open = quote {
                if letter == open { quote = nil } else { word = (word ?? "") + String(letter) }
            } else if letter == "\"" || letter == "'" {
                quote = letter
                word = word ?? ""
            } else if letter.isWhitespace {
                if let done = word { out.append(done) }
                word = nil
            } else {
                word = (word ?? "") + String(letter)
            }
        }
        if let word { out.append(word) }
        return out
    }

    private func take(_ words: [String]) {
        waiting.append(words)
        if current == nil { begin() }
    }

    private func begin() {
        while current == nil, !waiting.isEmpty {
            let words = waiting.removeFirst()
            do {
                let steps = try operation(words).steps(poolKey: poolKey, identity: identity)
                go(on: steps, [])
            } catch let error as NodeError {
                refuse(error.description)
            } catch {
                refuse(NodeCommand.message(for: error))
            }
        }
    }

    private func operation(_ words: [String]) throws -> any OverlayOperation {
        let rest = Array(words.dropFirst())
        switch words[0] {
        case "put": return try NodePut.parse(rest)
        case "get": return try NodeGet.parse(rest)
        case "announce": return try NodeAnnounce.parse(rest)
        case "peers": return try NodePeers.parse(rest)
        case "lookup": return try NodeLookup.parse(rest)
        default: throw NodeError.badInput("\(words[0]): put, get, announce, peers or lookup expected")
        }
    }

    private func go(on steps: OverlaySteps, _ done: [LookupOutcome]) {
        var request: RequestID?
        daemon.overlay { overlay, now in
            request = steps.next(done, &overlay, now)
            // Known before anything can be found.
            current = request.map { (steps, done, $0) }
        }
        if request == nil { print(steps.report(done).json) }
        fflush(nil)
    }

    private func found(_ request: RequestID, _ outcome: LookupOutcome) {
        guard let (steps, done, expected) = current, expected == request else { return }
        current = nil
        go(on: steps, done + [outcome])
        begin()
    }

    private func refuse(_ why: String) {
        let data = try! JSONSerialization.data(withJSONObject: ["error": why], options: [.sortedKeys])
        print(String(decoding: data, as: UTF8.self))
        fflush(nil)
    }
}
