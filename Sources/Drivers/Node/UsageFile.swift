import Digests
import Foundation
public import Lending
public import Primitives

/// What a peer has sent and received in a calendar month, the local network apart: `usage` in its folder, with the one before beside it. Damage is
/// noticed by a check, and then nothing is known of what was used: never zero.
public final class UsageFile {
    /// Year and month, such as 202611.
    public private(set) var month = 0
    public private(set) var sent = 0
    public private(set) var received = 0
    /// Why the count is not whole; nil where it is.
    public private(set) var damage: String?
    private let path: String
    private var isDirty = false
    /// The newest file on the disk can be read: it may take the place of the one before.
    private var isWhole = false
    static let format = "atoll-usage 1"

    /// - Parameter folder: the peer's.
    public init(folder: String) {
        path = folder + "/usage"
        var problems: [String] = []
        for file in [path, path + ".before"] {
            guard FileManager.default.fileExists(atPath: file) else { continue }
            if let bytes = try? readFile(file, limit: 4096), read(bytes) {
                isWhole = file == path
                return
            }
            problems.append(file)
        }
        if let first = problems.first { damage = "\(first) is damaged" }
    }

    private func read(_ bytes: [UInt8]) -> Bool {
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count == 4, lines[0] == Self.format, lines[3].isEmpty,
            lines[2] == Substring(Self.check(lines[1])[...])
        else { return false }
        let words = lines[1].split(separator: " ", maxSplits: 3)
        guard words.count >= 3, let month = Int(words[0]), let sent = Int(words[1]), let received = Int(words[2]),
            month >= 0, sent >= 0, received >= 0
        else { return false }
        (self.month, self.sent, self.received) = (month, sent, received)
        damage = words.count == 4 ? String(words[3]) : nil
        return true
    }
    private static func check(_ line: some StringProtocol) -> String { String(sha256(Array(line.utf8)).hex.prefix(16)) }

    /// Counts bytes; a month that has ended is forgotten. A clock that goes back changes nothing.
    public func add(sent: Int, received: Int, month: Int) {
        if month > self.month {
            if self.month != 0 { (self.sent, self.received, damage) = (0, 0, nil) }
            self.month = month
            isDirty = true
        }
        guard sent > 0 || received > 0 else { return }
        self.sent += max(0, sent)
        self.received += max(0, received)
        isDirty = true
    }
    /// The owner says what counts from now on.
    public func forgive() {
        isDirty = isDirty || damage != nil
        damage = nil
    }
    public var used: Reading<ByteCount> {
        damage.map { .unknown($0) } ?? .value(ByteCount(sent + received))
    }

    /// Writes what has changed; the file before stays beside it.
    public func save() throws(NodeError) {
        guard isDirty else { return }
        let line = "\(month) \(sent) \(received)" + (damage.map { " " + $0 } ?? "")
        if isWhole { rename(path, path + ".before") }
        try writeFile(path, Array("\(Self.format)\n\(line)\n\(Self.check(line))\n".utf8), mode: 0o600)
        (isDirty, isWhole) = (false, true)
    }
}
