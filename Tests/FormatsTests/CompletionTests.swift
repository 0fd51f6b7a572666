import Completions
import Primitives
import Testing
import Tokenizers

@Suite struct CompletionTests {
    static let tokenizer = try! SmallTokenizers.tokenizer(SmallTokenizers.trained(.gpt2, size: 257))
    static func tokens(_ text: String) -> [UInt32] { Array(text.utf8).map { tokenizer.ofByte[Int($0)] } }

    /// The pieces of text that come out, and why it ended.
    static func run(_ text: String, stops: [String] = [], limit: Int = 1000) throws -> ([String], Completion.Finish?) {
        var completion = Completion(tokenizer, stops: stops, endings: [0], limit: limit)
        var pieces: [String] = []
        for token in tokens(text) {
            if completion.finish != nil { break }
            pieces.append(try completion.receive(token))
        }
        if completion.finish == nil { pieces.append(completion.takeAll()) }
        return (pieces.filter { !$0.isEmpty }, completion.finish)
    }

    @Test func `characters come whole`() throws {
        #expect(try Self.run("aé日🦙b").0 == ["a", "é", "日", "🦙", "b"])
    }

    @Test func `what is no character is replaced, not held for ever`() throws {
        var completion = Completion(Self.tokenizer, stops: [], endings: [], limit: 100)
        var text = ""
        for byte in [0xFF, 0xE2, 0x82, 0x41, 0xC3] as [Int] {
            text += try completion.receive(Self.tokenizer.ofByte[byte])
        }
        text += completion.takeAll()
        #expect(text == "\u{FFFD}\u{FFFD}A\u{FFFD}")
    }

    @Test func `a stop string is never shown, not even in part`() throws {
        let (pieces, finish) = try Self.run("one two three", stops: ["two", "tw0"])
        #expect(pieces.joined() == "one ")
        #expect(finish == .stop)
        let (whole, none) = try Self.run("one twin", stops: ["two"])
        #expect(whole.joined() == "one twin" && none == nil)
        // The one that begins first counts.
        #expect(try Self.run("abcd", stops: ["cd", "bcd"]).0.joined() == "a")
    }

    @Test func `an answer ends with its token or at its limit`() throws {
        #expect(try Self.run("abcdef", limit: 3) == (["a", "b", "c"], .length))
        var completion = Completion(Self.tokenizer, stops: ["xyz"], endings: [0], limit: 100)
        _ = try completion.receive(Self.tokens("x")[0])
        #expect(try completion.receive(0) == "x")
        #expect(completion.finish == .stop && completion.count == 2)
        #expect(Completion(Self.tokenizer, stops: [], endings: [], limit: 0).finish == .length)
    }

    @Test func `any bytes and stops give what a search over the whole would`() throws {
        var generator = SeededGenerator(seed: 5)
        for _ in 0..<300 {
            let text = (0..<40).map { _ in ["a", "b", "c"][generator.below(3)] }.joined()
            let stops = (0..<2).map { _ in
                (0...generator.below(4)).map { _ in ["a", "b", "c"][generator.below(3)] }.joined()
            }
            let (pieces, _) = try Self.run(text, stops: stops)
            // The stop that is complete first; of those that end together the longest.
            var expected = text
            search: for end in 1...text.count {
                let head = String(text.prefix(end))
                if let stop = stops.filter({ head.hasSuffix($0) }).max(by: { $0.count < $1.count }) {
                    expected = String(head.dropLast(stop.count))
                    break search
                }
            }
            #expect(pieces.joined() == expected, "\(text) \(stops)")
        }
    }

    @Test func `a full context goes on with its later half`() {
        var continuation = Continuation(context: 8)
        continuation.append([1, 2, 3, 4, 5, 6])
        #expect(continuation.next() == (false, [1, 2, 3, 4, 5, 6]))
        continuation.append([7])
        #expect(continuation.next().tokens == [7])
        continuation.append([8])
        _ = continuation.next()
        continuation.append([9])
        let (restarts, tokens) = continuation.next()
        #expect(restarts && Array(tokens) == [6, 7, 8, 9])
        #expect(continuation.next().tokens.isEmpty)
    }
}
