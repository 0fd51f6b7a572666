public import Digests
public import Primitives
public import Wire

/// What is passed around among owners of recovery keys, as text: what they are asked to sign, whose keys count, and who has signed.
///
/// Whose keys count is there for people: the job's own manifest decides.
public struct RecoveryFile: Hashable, Sendable {
    public var grant: RecoveryGrant
    public let keys: RecoveryKeys

    public init(_ grant: RecoveryGrant, _ keys: RecoveryKeys) {
        self.grant = grant
        self.keys = keys
    }

    static let format = "atoll-recovery 1"
    public var text: String {
        let claim = grant.claim
        var lines = [
            Self.format,
            "# Whoever owns one of these keys and agrees: atoll recovery sign FILE --key KEYFILE; then pass this file on.",
            "job \(claim.job.hex)", "era \(claim.era)", "entries \(claim.size)", "root \(claim.root.hex)",
            "founder \(claim.founder.hex)", "needed \(keys.needed)",
        ]
        lines += keys.keys.map { "key \($0.hex)" }
        lines += grant.signatures.map { "signed \($0.signer.hex) \($0.bytes.hex)" }
        return lines.joined(separator: "\n") + "\n"
    }

    /// Throws what is wrong, and in which line.
    public init(parsing text: String) throws(MalformedBytes) {
        var lines = FileLines(text)
        guard lines.next()?.words.joined(separator: " ") == Self.format else {
            throw MalformedBytes("line 1: it does not begin with “\(Self.format)”")
        }
        let job = try lines.digest("job")
        let era = try lines.number("era", 1...Era.most)
        let size = try lines.number("entries", 1...1 << 40)
        let root = try lines.digest("root")
        let founder = try lines.key("founder")
        let needed = try lines.number("needed", 1...RecoveryKeys.most)
        var keys: [PeerID] = []
        var grant = RecoveryGrant(RecoveryClaim(job: job, era: era, size: size, root: root, founder: founder))
        while let line = lines.next() {
            switch line.words.first {
            case "key" where line.words.count == 2 && grant.signatures.isEmpty:
                guard let key = PeerID(hex: line.words[1]) else { throw line.problem("64 hexadecimal digits") }
                keys.append(key)
            case "signed" where line.words.count == 3:
                guard let signer = PeerID(hex: line.words[1]), let bytes = [UInt8](hex: line.words[2]) else {
                    throw line.problem("a key and a signature in hexadecimal digits")
                }
                guard keys.contains(signer) else {
                    throw MalformedBytes("line \(line.number): \(signer.short) is none of the keys above")
                }
                do { try grant.add(bytes, by: signer) } catch {
                    throw MalformedBytes("line \(line.number): \(error.description)")
                }
            default: throw line.problem("“key KEY”, and then “signed KEY SIGNATURE”")
            }
        }
        guard let all = RecoveryKeys(needed: needed, of: keys) else {
            throw MalformedBytes("\(needed) of \(keys.count) keys are no recovery keys, or one is there twice")
        }
        self.init(grant, all)
    }

    /// Throws why this key's owner is not asked.
    public mutating func sign(by key: SigningKey) throws(MalformedBytes) {
        guard keys.keys.contains(key.peerID) else {
            throw MalformedBytes(
                "\(key.peerID.short) is none of the job's recovery keys: these are \(keys.keys.map(\.short).joined(separator: ", "))"
            )
        }
        grant.sign(by: key)
    }
    /// More signatures are needed.
    public var missing: Int { max(0, keys.needed - grant.signatures.count) }
}

/// Lines of words, without comments and empty ones.
private struct FileLines {
    struct Line {
        let number: Int
        let words: [String]
        func problem(_ allowed: String) -> MalformedBytes {
            MalformedBytes("line \(number): “\(words.joined(separator: " ").prefix(80))”; expected is \(allowed)")
        }
    }
    private var lines: ArraySlice<Line>
    private var count: Int

    init(_ text: String) {
        let all = text.split(separator: "\n", omittingEmptySubsequences: false)
        count = all.count
        let lines = all.enumerated().map { index, line in
            Line(number: index + 1, words: line.split(whereSeparator: \.isWhitespace).map(String.init))
        }
        self.lines = lines.filter { !$0.words.isEmpty && $0.words[0] != "#" }[...]
    }
    mutating func next() -> Line? { lines.popFirst() }

    private mutating func value(_ name: String, _ allowed: String) throws(MalformedBytes) -> (Line, String) {
        guard let line = next() else { throw MalformedBytes("line \(count): it ends before “\(name)”") }
        guard line.words.count == 2, line.words[0] == name else { throw line.problem("“\(name) \(allowed)”") }
        return (line, line.words[1])
    }
    mutating func digest(_ name: String) throws(MalformedBytes) -> Digest256 {
        let (line, word) = try value(name, "and 64 hexadecimal digits")
        guard let digest = Digest256(hex: word) else { throw line.problem("“\(name)” and 64 hexadecimal digits") }
        return digest
    }
    mutating func key(_ name: String) throws(MalformedBytes) -> PeerID {
        let (line, word) = try value(name, "and 64 hexadecimal digits")
        guard let key = PeerID(hex: word) else { throw line.problem("“\(name)” and 64 hexadecimal digits") }
        return key
    }
    mutating func number(_ name: String, _ range: ClosedRange<Int>) throws(MalformedBytes) -> Int {
        let allowed = "\(range.lowerBound) to \(range.upperBound)"
        let (line, word) = try value(name, allowed)
        guard let number = Int(word), range.contains(number) else { throw line.problem("“\(name)” and \(allowed)") }
        return number
    }
}
