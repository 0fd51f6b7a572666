/// Tokens of documents in one file: what `atoll data prepare` writes. Little-endian:
///
/// | bytes | what |
/// |---|---|
/// | 8 | `atolltok` |
/// | 4 | version, 1 |
/// | 4 | bytes a token, 2 or 4 |
/// | 4 | vocabulary: all tokens are below it |
/// | 4 | 1 if there are loss bits, else 0 |
/// | 8 | n, tokens |
/// | 8 | d, documents |
/// | 24 | zero |
/// | n × 2 or 4 | tokens, then zeros up to a multiple of 8 |
/// | d × 8 | where each document ends |
/// | ⌈n/8⌉ | with loss bits: bit i is set where token i is to be learnt; lowest bit first |
public struct TokenFile: @unchecked Sendable {
    public static let magic = Array("atolltok".utf8)
    public static let headerBytes = 64
    static let version: UInt32 = 1

    public let path: String
    public let count: Int
    public let documents: Int
    public let vocabulary: Int
    public let bytesPerToken: Int
    public let hasLossBits: Bool
    private let bytes: UnsafeRawBufferPointer
    private var endsStart: Int { Self.endsStart(count, bytesPerToken) }
    private var bitsStart: Int { endsStart + 8 * documents }

    static func endsStart(_ count: Int, _ bytesPerToken: Int) -> Int {
        headerBytes + (count * bytesPerToken + 7) / 8 * 8
    }

    /// Looks at the bytes of a file, which stay the caller's: header, sizes and the documents' ends are checked here, tokens
    /// when they are read (``checkTokens(_:)``).
    public init(_ bytes: UnsafeRawBufferPointer, path: String) throws(DatasetError) {
        guard bytes.count >= Self.headerBytes else {
            throw .truncated(path: path, expected: Self.headerBytes, found: bytes.count)
        }
        func word(_ offset: Int) -> UInt32 {
            UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        }
        func long(_ offset: Int) -> UInt64 {
            UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        }
        guard bytes.starts(with: Self.magic) else {
            throw .malformed(path: path, problem: "it does not begin with “atolltok”")
        }
        guard word(8) == Self.version else {
            throw .malformed(path: path, problem: "version \(word(8)), this program reads \(Self.version)")
        }
        guard word(12) == 2 || word(12) == 4, word(16) > 0, word(20) <= 1, long(24) < 1 << 48, long(32) < 1 << 40,
            long(40) == 0, long(48) == 0, long(56) == 0
        else { throw .malformed(path: path, problem: "the header's numbers make no sense") }
        self.path = path
        self.bytes = bytes
        count = Int(long(24))
        documents = Int(long(32))
        bytesPerToken = Int(word(12))
        vocabulary = Int(word(16))
        hasLossBits = word(20) == 1
        let expected = Self.endsStart(count, bytesPerToken) + 8 * documents + (hasLossBits ? (count + 7) / 8 : 0)
        guard bytes.count == expected else {
            if bytes.count < expected { throw .truncated(path: path, expected: expected, found: bytes.count) }
            throw .malformed(path: path, problem: "\(bytes.count - expected) bytes come after the end")
        }
        var last = 0
        for document in 0..<documents {
            let end = documentEnd(document)
            guard end > last, end <= count else {
                throw .malformed(path: path, problem: "document \(document) ends at \(end), after \(last) of \(count)")
            }
            last = end
        }
        guard last == count else { throw .malformed(path: path, problem: "no document holds token \(last)") }
    }

    /// One past the last token of a document.
    func documentEnd(_ document: Int) -> Int {
        let end = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: endsStart + 8 * document, as: UInt64.self))
        return Int(min(end, 1 << 62))
    }

    public subscript(index: Int) -> Int {
        precondition(index >= 0 && index < count, "token \(index) of \(count)")
        return token(index)
    }
    private func token(_ index: Int) -> Int {
        let offset = Self.headerBytes + index * bytesPerToken
        return bytesPerToken == 2
            ? Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
            : Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }

    /// Refuses tokens beyond the vocabulary.
    public func checkTokens(_ range: Range<Int>) throws(DatasetError) {
        for index in range where token(index) >= vocabulary {
            throw .tokenOutOfRange(path: path, index: index, token: token(index), vocabulary: vocabulary)
        }
    }

    /// Whether a token is to be learnt.
    public func bearsLoss(_ index: Int) -> Bool {
        !hasLossBits || bytes[bitsStart + index / 8] >> UInt8(index % 8) & 1 == 1
    }

    /// The document that holds a token.
    public func document(of index: Int) -> Int {
        var low = 0, high = documents - 1
        while low < high {
            let middle = (low + high) / 2
            if documentEnd(middle) > index { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// Where documents end within a range, ascending.
    public func documentEnds(in range: Range<Int>) -> [Int] {
        guard documents > 0, !range.isEmpty else { return [] }
        var ends: [Int] = []
        var document = document(of: range.lowerBound)
        while document < documents, documentEnd(document) <= range.upperBound {
            ends.append(documentEnd(document))
            document += 1
        }
        return ends
    }
}

/// Builds a ``TokenFile`` document by document: tokens are handed on as they come, ends and loss bits are kept.
public struct TokenFileBuilder: Sendable {
    public let vocabulary: Int
    public let bytesPerToken: Int
    public private(set) var count = 0
    public private(set) var ends: [UInt64] = []
    /// Tokens to be learnt.
    public private(set) var learnt = 0
    private var bits: [UInt8] = []
    private var hasMasked = false
    private var pending: [UInt8] = []

    /// Two bytes a token where they are enough.
    public init(vocabulary: Int) {
        precondition(vocabulary > 0 && vocabulary <= 1 << 24, "a vocabulary of \(vocabulary)")
        self.vocabulary = vocabulary
        bytesPerToken = vocabulary <= 1 << 16 ? 2 : 4
    }

    /// Bytes before the first token; written last, when the numbers are known.
    public var header: [UInt8] {
        var header = TokenFile.magic
        for word in [TokenFile.version, UInt32(bytesPerToken), UInt32(vocabulary), hasMasked ? 1 : 0] {
            withUnsafeBytes(of: word.littleEndian) { header += $0 }
        }
        for long in [UInt64(count), UInt64(ends.count), 0, 0, 0] {
            withUnsafeBytes(of: long.littleEndian) { header += $0 }
        }
        return header
    }

    /// Adds tokens to the document that is open; `bearsLoss` says whether they are to be learnt.
    public mutating func append(_ tokens: some Sequence<UInt32>, bearsLoss: Bool = true) {
        for token in tokens {
            if count % 8 == 0 { bits.append(0) }
            if bearsLoss {
                bits[bits.count - 1] |= 1 << UInt8(count % 8)
                learnt += 1
            } else {
                hasMasked = true
            }
            count += 1
            if bytesPerToken == 2 {
                withUnsafeBytes(of: UInt16(truncatingIfNeeded: token).littleEndian) { pending += $0 }
            } else {
                withUnsafeBytes(of: token.littleEndian) { pending += $0 }
            }
        }
    }

    /// Ends the document; one without a token leaves no trace.
    public mutating func endDocument() {
        if UInt64(count) > ends.last ?? 0 { ends.append(UInt64(count)) }
    }

    /// Bytes of tokens since the last call.
    public mutating func takeBytes() -> [UInt8] {
        defer { pending = [] }
        return pending
    }

    /// What comes after the last token.
    public var trailer: [UInt8] {
        let size = TokenFile.headerBytes + count * bytesPerToken
        var bytes = [UInt8](repeating: 0, count: TokenFile.endsStart(count, bytesPerToken) - size)
        for end in ends { withUnsafeBytes(of: end.littleEndian) { bytes += $0 } }
        return hasMasked ? bytes + bits : bytes
    }
}

extension DataSource {
    /// Appends tokens within a range to a file that is built, ending the documents that end there.
    public func copy(_ range: Range<Int>, to builder: inout TokenFileBuilder) {
        switch self {
        case .documents(let file):
            var place = range.lowerBound
            for end in file.documentEnds(in: range) {
                file.copy(place..<end, to: &builder)
                builder.endDocument()
                place = end
            }
            file.copy(place..<range.upperBound, to: &builder)
        case .shards(let shards, _):
            var first = 0
            for shard in shards {
                let part = range.clamped(to: first..<first + shard.count)
                builder.append(part.lazy.map { UInt32(shard[$0 - first]) })
                first += shard.count
                if part.upperBound == first { builder.endDocument() }
            }
        }
    }
}

extension TokenFile {
    fileprivate func copy(_ range: Range<Int>, to builder: inout TokenFileBuilder) {
        var place = range.lowerBound
        while place < range.upperBound {
            let isLearnt = bearsLoss(place)
            let end = range[place...].first { bearsLoss($0) != isLearnt } ?? range.upperBound
            builder.append((place..<end).lazy.map { UInt32(self[$0]) }, bearsLoss: isLearnt)
            place = end
        }
    }
}
