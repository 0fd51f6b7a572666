import Foundation
import Node
import Testing

/// Pages of code that a daemon's start has used, and the daemon does not.
@Suite struct `Pages of the program` {
    @Test func `are those of code from files, and nothing that somebody may have written to`() {
        let maps = """
            556a4bd87000-556a4c000000 r--p 00000000 fe:01 12 /usr/bin/atoll
            556a4c000000-556a4d000000 r-xp 00279000 fe:01 12 /usr/bin/atoll
            556a4d000000-556a4d100000 r--p 01279000 fe:01 12 /usr/bin/atoll
            556a4d100000-556a4d200000 rw-p 01379000 fe:01 12 /usr/bin/atoll
            7f0000000000-7f0000001000 rwxp 00000000 00:00 0
            7f0000002000-7f0000004000 r-xp 00001000 fe:01 13 /usr/lib/a library with spaces.so (deleted)
            7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0 [vdso]
            nonsense r-xp 0 0 0 /x
            9000-8000 r-xp 0 0 0 /backwards
            """
        #expect(
            ProgramPages.code(in: maps) == [
                0x556a_4c00_0000..<0x556a_4d00_0000, 0x7f00_0000_2000..<0x7f00_0000_4000,
            ])
        #expect(ProgramPages.code(in: "") == [])
    }

    /// Resident kibibytes of code, by mapping.
    private func residentCode() throws -> Int {
        let all = try String(contentsOfFile: "/proc/self/smaps", encoding: .utf8)
        var (sum, isCode) = (0, false)
        for line in all.split(separator: "\n") {
            if line.first!.isLowercase || line.first!.isNumber {
                isCode = line.contains(" r-xp ") && line.contains("/")
            }
            if isCode, line.hasPrefix("Rss:") { sum += line.split(separator: " ").compactMap { Int($0) }.first ?? 0 }
        }
        return sum
    }

    @Test func `are let go, and come back when they are needed`() throws {
        func work() -> String { (0..<200).map { "\($0 * $0)" }.sorted().joined(separator: ",").uppercased() }
        let before = work()
        let resident = try residentCode()
        #expect(ProgramPages.release() > 0)
        #expect(try residentCode() < resident)
        #expect(work() == before)
    }
}
