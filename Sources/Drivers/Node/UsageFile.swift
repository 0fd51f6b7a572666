import Digests
import Foundation
public import Lending
public import Primitives

/// What a peer has sent and received in each calendar month, the local network apart: `usage` in its folder, with the one before beside it. Damage
/// is noticed by a check, and then nothing is known of what was used in that month: never zero.
///
/// Where a month's bytes are limited, some are written down before they are used, and those count where nobody has written since: a peer that is
/// killed, however often, may come to a little more than it has used, and not to less.
public final class UsageFile {
    private var counted = MonthlyUsage()
    /// Why the count is not whole, and in which month that was found (0: nothing was counted since); nil where it is.
    private var loss: (why: String, month: Int)?
    private let path: String
    private var isDirty = false
    /// Bytes that the newest file counts beyond what was used when it was written, and those that were used since.
    private(set) var ahead = 0
    private var since = 0
    /// The newest file on the disk can be read: it may take the place of the one before.
    private var isWhole = false
    static let format = "atoll-usage 3"
    private static let formatBefore = "atoll-usage 2"
    private static let formatFirst = "atoll-usage 1"
    private let disk = Disk()

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

    // MARK: the file: the format, the clock's month and strays, a line for each month, bytes ahead, what was lost, a check of all lines before it

    private func read(_ bytes: [UInt8]) -> Bool {
        var lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.popLast() == "", lines.count >= 3, let check = lines.popLast() else { return false }
        if lines[0] == Self.formatFirst { return lines.count == 2 && readBefore(lines[1], check) }
        guard lines[0] == Self.format || lines[0] == Self.formatBefore,
            check == Self.check(lines.joined(separator: "\n")),
            let head = Self.count(lines[1]), lines.count >= 3
        else { return false }
        var ahead = 0
        if lines[0] == Self.format {
            let words = lines.remove(at: lines.count - 2).split(separator: " ")
            guard words.count == 2, words[0] == "ahead", let bytes = Int(words[1]), bytes >= 0, lines.count >= 3
            else { return false }
            ahead = bytes
        }
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
        // Nobody has said since how much of it was used: all of it may be.
        if ahead > 0, !counted.counts.isEmpty { isDirty = counted.add(sent: 0, received: ahead, month: counted.month) }
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
    private func text(ahead: Int) -> String {
        let lines =
            [
                Self.format, "\(counted.month) \(counted.strays.sent) \(counted.strays.received)",
            ] + counted.counts.map { "\($0.month) \($0.sent) \($0.received)" }
            + ["ahead \(ahead)", loss.map { "lost \($0.month) \($0.why)" } ?? "lost"]
        let body = lines.joined(separator: "\n")
        return body + "\n" + Self.check(body) + "\n"
    }

    // MARK: counting

    /// Counts bytes in the month that the clock says.
    public func add(sent: Int, received: Int, month: Int) {
        guard counted.add(sent: sent, received: received, month: month) else { return }
        isDirty = true
        since += max(0, sent) + max(0, received)
        if let found = loss, found.month == 0 { loss = (found.why, month) }
    }
    /// The owner says what counts from now on.
    public func forgive() {
        isDirty = isDirty || loss != nil
        loss = nil
    }
    public var used: Reading<ByteCount> { damage.map { .unknown($0) } ?? .value(counted.all) }

    /// Whether so much was used since the newest file was written that it has to be written anew, to be true whatever happens.
    ///
    /// - Parameter next: so much may be used before this is asked again.
    public func isDue(next: Int) -> Bool { since > 0 && since + next > ahead }

    /// Writes what has changed; the file before stays beside it.
    ///
    /// - Parameter ahead: so much more is counted, if this is the last that is written.
    public func save(ahead: Int = 0) throws(NodeError) {
        guard isDirty || self.ahead != ahead else { return }
        do throws(NodeError) { try take(ahead).perform() } catch {
            isDirty = true
            throw error
        }
    }
    /// The same for another thread: what is to be written now.
    func take(_ ahead: Int) -> Writing {
        defer { (isDirty, isWhole, since, self.ahead) = (false, true, 0, ahead) }
        return Writing(
            path: path, bytes: Array(text(ahead: ahead).utf8), keepsBefore: isWhole, number: disk.next(), disk: disk)
    }
    /// What was taken was not written.
    func failed() { (isDirty, ahead) = (true, 0) }

    /// The newest word on a month's bytes; an older one is never written after it.
    struct Writing: Sendable {
        fileprivate let path: String
        fileprivate let bytes: [UInt8]
        fileprivate let keepsBefore: Bool
        fileprivate let number: Int
        fileprivate let disk: Disk
        func perform() throws(NodeError) {
            try disk.write(number) { () throws(NodeError) in
                if keepsBefore { rename(path, path + ".before") }
                try writeFile(path, bytes, mode: 0o600)
            }
        }
    }
    fileprivate final class Disk: @unchecked Sendable {
        private let lock = NSLock()
        private var taken = 0
        private var written = 0
        func next() -> Int {
            lock.lock()
            defer { lock.unlock() }
            taken += 1
            return taken
        }
        func write(_ number: Int, _ body: () throws(NodeError) -> Void) throws(NodeError) {
            lock.lock()
            defer { lock.unlock() }
            guard number > written else { return }
            try body()
            written = number
        }
    }
}
