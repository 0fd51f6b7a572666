public import Tokenizers

/// The text of an answer as its tokens come: whole characters only, up to a stop string, a token that ends it, or a number of
/// tokens.
public struct Completion: Sendable {
    public enum Finish: String, Sendable {
        /// A stop string, or a token that ends a text.
        case stop
        /// As many tokens as were wanted, or as fit.
        case length
    }
    /// Longest stop string, in bytes.
    public static let longestStop = 1024

    public private(set) var finish: Finish?
    /// Tokens taken, the ending one included.
    public private(set) var count = 0
    private var decoder: TokenDecoder
    private let stops: [[UInt8]]
    private let endings: Set<UInt32>
    private let limit: Int
    /// Bytes that may become a stop string, or a character.
    private var held: [UInt8] = []

    /// - Parameters:
    ///   - stops: not empty ones; the text ends before the first that comes.
    ///   - endings: tokens that end it, and are no text.
    ///   - limit: tokens at most.
    public init(
        _ tokenizer: Tokenizer, stops: [String], endings: Set<UInt32>, limit: Int, showingSpecial: Bool = false
    ) {
        decoder = TokenDecoder(tokenizer, skippingSpecial: !showingSpecial, continuing: true)
        self.stops = stops.map { Array($0.utf8) }.filter { !$0.isEmpty }
        self.endings = endings
        self.limit = limit
        if limit <= 0 { finish = .length }
    }

    /// Takes the next token; the text that is sure by now. Nothing may be taken once ``finish`` is set.
    public mutating func receive(_ token: UInt32) throws(TokenizerError) -> String {
        precondition(finish == nil, "a token after the end")
        count += 1
        if endings.contains(token) {
            finish = .stop
            return takeAll()
        }
        let from = held.count
        held += try decoder.append(token)
        if let stop = firstStop(from: from) {
            held.removeSubrange(stop...)
            finish = .stop
            return takeAll()
        }
        if count >= limit {
            finish = .length
            return takeAll()
        }
        return takeSure()
    }

    /// What is held back, at an end that nobody asked for.
    public mutating func takeAll() -> String {
        defer { held = [] }
        return String(decoding: held, as: UTF8.self)
    }

    /// Where a stop string begins that ends after `from`.
    private func firstStop(from: Int) -> Int? {
        var first: Int?
        for stop in stops where stop.count <= held.count {
            var start = max(0, from - stop.count + 1)
            while start + stop.count <= held.count, start < first ?? .max {
                if held[start..<start + stop.count].elementsEqual(stop) {
                    first = start
                    break
                }
                start += 1
            }
        }
        return first
    }

    private mutating func takeSure() -> String {
        var sure = held.count
        // The longest end that begins a stop string stays.
        for stop in stops {
            for length in stride(from: min(stop.count - 1, held.count), to: 0, by: -1)
            where held[(held.count - length)...].elementsEqual(stop.prefix(length)) {
                sure = min(sure, held.count - length)
                break
            }
        }
        sure = Self.characterEnd(held, upTo: sure)
        defer { held.removeFirst(sure) }
        return String(decoding: held[..<sure], as: UTF8.self)
    }

    /// The largest place up to `end` at which no character is open.
    static func characterEnd(_ bytes: [UInt8], upTo end: Int) -> Int {
        for back in 1...3 where back <= end {
            let byte = bytes[end - back]
            if byte & 0xC0 == 0x80 { continue }
            let length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1
            return length > back ? end - back : end
        }
        return end
    }
}
