import Foundation
import Testing

/// A committed text that a test compares with what it has just made; with `ATOLL_TRANSCRIPTS=rewrite` it is written anew.
struct Pins {
    let file: String

    private var url: URL {
        URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Transcripts/\(file)")
    }
    private static var rewrites: Bool { ProcessInfo.processInfo.environment["ATOLL_TRANSCRIPTS"] == "rewrite" }

    func check(
        _ lines: [String], header: String, location: SourceLocation = #_sourceLocation
    ) throws {
        let made = ["# \(header)"] + lines
        if Self.rewrites { try Data((made.joined(separator: "\n") + "\n").utf8).write(to: url) }
        let text = String(decoding: try Data(contentsOf: url), as: UTF8.self)
        let pinned = text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
        let changed = zip(pinned, made).filter { $0 != $1 }
        for (old, new) in changed.prefix(3) {
            Issue.record("\(file) had\n\(old)\nand is now\n\(new)", sourceLocation: location)
        }
        #expect(pinned.count == made.count, "lines of \(file)", sourceLocation: location)
        if !changed.isEmpty {
            Issue.record(
                "\(changed.count) lines of \(file) changed; when that is meant, `make transcripts` pins them anew",
                sourceLocation: location)
        }
    }
}
