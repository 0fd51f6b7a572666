import Digests
import Foundation
public import Lending
public import Primitives

/// What a peer has sent and received in each calendar month, the local network apart: `usage` in its folder, with the one before beside it. Damage
/// is noticed by a check, and then nothing is known of what was used in that month: never zero.
public final class UsageFile {
    private var counted = MonthlyUsage()
    /// Why the count is not whole, and in which month that was found (0: nothing was counted since); nil where it is.
    private var loss: (why: String, month: Int)?
    private let path: String
    private var isDirty = false
    /// The newest file on the disk can be read: it may take the place of the one before.
    private var isWhole = false
    static let format = "atoll-usage 2"
    private static let formatBefore = "atoll-usage 1"

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
        if let first = problems.first { loss = ("\(first) is damaged", 0) }
    }

    /// Year and month of the clock, such as 202611; 0 before anything was counted.
    public var month: Int { counted.month }
    public var sent: Int { counted.sent }
    public var received: Int { counted.received }
    /// Why the count of this month is not whole; nil where it is.
    public var damage: String? {
        // A month that has begun since is known as a whole; where the clock was only wrong, the loss is there again when it is right.
        loss.flatMap { $0.month == 0 || month <= $0.month ? $0.why : nil }
    }

    // MARK: the file: the format, the clock's month and strays, a line for each month, what was lost, a check of all lines before it

    private func read(_ bytes: [UInt8]) -> Bool {
        var lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.popLast() == "", lines.count >= 3, let check = lines.popLast() else { return false }
        if lines[0] == Self.formatBefore { return lines.count == 2 && readBefore(lines[1], check) }
        guard lines[0] == Self.format, check == Self.check(lines.joined(separator: "\n")),
            let head = Self.count(lines[1]), lines.count >= 3
        else { return false }
        var counts: [MonthlyUsage.Count] = []
        for line in lines[2..<(lines.count - 1)] {
            guard let count = Self.count(line) else { return false }
            counts.append(count)
        }
        let strays = MonthlyUsage.Count(month: 0, sent: head.sent, received: head.received)
        guard let read = MonthlyUsage(counts: counts, month: head.month, strays: strays) else { return false }
        let last = lines[lines.count - 1].split(separator: " ", maxSplits: 2)
        guard last.first == "lost" else { return false }
        if last.count == 3 {
            guard let month = Int(last[1]) else { return false }
            loss = (String(last[2]), month)
        }
        counted = read
        return true
    }
    private func readBefore(_ line: Substring, _ check: Substring) -> Bool {
        let words = line.split(separator: " ", maxSplits: 3)
        guard check == Self.check(line), let count = Self.count(words.prefix(3).joined(separator: " ")),
            let read = MonthlyUsage(
                counts: [count], month: count.month, strays: .init(month: 0, sent: 0, received: 0))
        else { return false }
        counted = read
        loss = words.count == 4 ? (String(words[3]), count.month) : nil
        return true
    }
    private static func count(_ line: some StringProtocol) -> MonthlyUsage.Count? {
        let words = line.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, let month = Int(words[0]), let sent = Int(words[1]), let received = Int(words[2]),
            month >= 0, sent >= 0, received >= 0
        else { return nil }
        return MonthlyUsage.Count(month: month, sent: sent, received: received)
    }
    private static func check(_ text: some StringProtocol) -> Substring { sha256(Array(text.utf8)).hex.prefix(16) }
    private var text: String {
        let lines =
            [
                Self.format, "\(counted.month) \(counted.strays.sent) \(counted.strays.received)",
            ] + counted.counts.map { "\($0.month) \($0.sent) \($0.received)" }
            + [loss.map { "lost \($0.month) \($0.why)" } ?? "lost"]
        let body = lines.joined(separator: "\n")
        return body + "\n" + Self.check(body) + "\n"
    }

    // MARK: counting

    /// Counts bytes in the month that the clock says.
    public func add(sent: Int, received: Int, month: Int) {
        guard counted.add(sent: sent, received: received, month: month) else { return }
        isDirty = true
        if let found = loss, found.month == 0 { loss = (found.why, month) }
    }
    /// The owner says what counts from now on.
    public func forgive() {
        isDirty = isDirty || loss != nil
        loss = nil
    }
    public var used: Reading<ByteCount> { damage.map { .unknown($0) } ?? .value(counted.all) }

    /// Writes what has changed; the file before stays beside it.
    public func save() throws(NodeError) {
        guard isDirty else { return }
        if isWhole { rename(path, path + ".before") }
        try writeFile(path, Array(text.utf8), mode: 0o600)
        (isDirty, isWhole) = (false, true)
    }
}
