import Foundation
import Testing

/// A process whose standard output is a terminal of so many columns and lines; what it wrote, controls included.
final class OnTerminal: @unchecked Sendable {
    let process = Process()
    private let master: Int32
    private let lock = NSLock()
    private var bytes: [UInt8] = []

    /// - Parameter errors: whether what it says on standard errors goes there as well.
    init(
        _ arguments: [String], columns: UInt16, lines: UInt16, in folder: URL, variables: [String: String] = [:],
        errors: Bool = false
    ) throws {
        // What posix_openpt, unlockpt and ptsname do, which Swift's Glibc does not have (ioctl_tty(2)).
        master = open("/dev/ptmx", O_RDWR | O_NOCTTY)
        try #require(master >= 0)
        var (number, isLocked): (Int32, Int32) = (0, 0)
        try #require(ioctl(master, 0x4004_5431, &isLocked) == 0 && ioctl(master, 0x8004_5430, &number) == 0)
        let slave = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY)
        try #require(slave >= 0)
        var size = winsize(ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0)
        ioctl(slave, UInt(TIOCSWINSZ), &size)
        process.executableURL = DemoTests.program
        process.arguments = arguments
        var environment = ProcessInfo.processInfo.environment
        environment["ATOLL_HOME"] = folder.appendingPathComponent("home").path
        environment["ATOLL_PARENT"] = "\(getpid())"
        environment["TERM"] = "xterm-256color"
        environment["NO_COLOR"] = nil
        for (key, value) in variables { environment[key] = value }
        process.environment = environment
        process.standardOutput = FileHandle(fileDescriptor: slave, closeOnDealloc: true)
        process.standardInput = FileHandle.nullDevice
        process.standardError = errors ? process.standardOutput : FileHandle.nullDevice
        try process.run()
        let reader = Thread { [self] in
            var buffer = [UInt8](repeating: 0, count: 65_536)
            while true {
                let count = read(master, &buffer, buffer.count)
                guard count > 0 else { break }
                lock.withLock { bytes += buffer[..<count] }
            }
        }
        reader.start()
    }
    /// With a line's end as programs write it.
    var text: String {
        lock.withLock { String(decoding: bytes, as: UTF8.self) }.replacingOccurrences(of: "\r\n", with: "\n")
    }
    func shows(_ words: String) -> Bool { shows { $0.contains(words) } }
    func shows(_ words: Regex<(Substring, Substring)>) -> Bool { shows { $0.firstMatch(of: words) != nil } }
    private func shows(_ isThere: (String) -> Bool) -> Bool {
        for _ in 0..<2400 {
            if isThere(text) { return true }
            guard process.isRunning else { return isThere(text) }
            Thread.sleep(forTimeInterval: 0.05)
        }
        return false
    }
    func end() {
        guard process.isRunning else { return }
        kill(process.processIdentifier, SIGINT)
        process.waitUntilExit()
    }
}

/// What who launches a job sees in a terminal.
@Suite(.serialized) struct `A launcher's screen` {
    private static func job(tokens: Int) -> String {
        """
        name: village
        model: {architecture: llama, hidden_size: 32, layers: 2, heads: 2, kv_heads: 2, intermediate_size: 64, context: 32, tokenizer: byte}
        data: {path: text.txt, validation_fraction: 0.1}
        train: {tokens: \(tokens), batch_tokens: 512, optimizer: adamw, learning_rate: 3e-3, seed: 1}
        parallel: {virtual_pipelines: 2, micro_batch: 4, inner_steps: 4}
        """
    }
    private static func pool(tokens: Int) throws -> RunningPool {
        let folder = try DemoTests.makeFolder()
        try job(tokens: tokens).write(to: folder.appendingPathComponent("job.yaml"), atomically: true, encoding: .utf8)
        try String(repeating: "in the beginning ", count: 400).write(
            to: folder.appendingPathComponent("text.txt"), atomically: true, encoding: .utf8)
        return try RunningPool(folder, peers: 2)
    }
    private static func launch(
        _ pool: RunningPool, columns: UInt16, lines: UInt16 = 50, _ more: [String] = [], errors: Bool = false
    ) throws -> OnTerminal {
        let path = { pool.folder.appendingPathComponent($0).path }
        return try OnTerminal(
            [
                "launch", path("job.yaml"), "--data", path("text.txt"), "--invite", path("node/invite.yaml"),
                "--listen",
                "127.0.0.1:0", "--out", path("out"), "--peers", "2",
            ] + more, columns: columns, lines: lines, in: pool.folder, errors: errors)
    }
    /// The newest picture that is whole.
    private static func picture(_ text: String) -> [String] {
        text.components(separatedBy: "\u{1B}[0J").dropLast().last { $0.contains("Next: ") }?
            .components(separatedBy: "\n") ?? []
    }

    @Test func `tells what the job is, how it goes, what comes next and how to stop`() throws {
        let pool = try Self.pool(tokens: 40_000_000)
        defer {
            pool.end()
            try? FileManager.default.removeItem(at: pool.folder)
        }
        let launch = try Self.launch(pool, columns: 110)
        defer { launch.end() }
        #expect(launch.shows("A step takes"), "\(launch.text.suffix(2000))")
        #expect(launch.shows("is sealed"))
        let text = launch.text
        for words in [
            "“village”: a model of", "parameters, 2 peers", "Round ", "predicted ", "tokens/s", "left",
            "The loss is ", "stage 1 of", "in pipeline 1", "Next: round ",
            "after the last step the weights are collected into",
            "To stop: ^C here", "peer-1", "peer-2", "direct",
        ] {
            #expect(text.contains(words), "\(words): \(Self.picture(text))")
        }
        // Beside other work the first plan may have been made anew before it could be shown.
        #expect(text.firstMatch(of: #/(The plan|Plan \d+): /#) != nil, "\(Self.picture(text))")
        #expect(text.contains("\u{1B}[1m"))
        // Rounds are in the picture, and no lines of their own; what happened has its time.
        #expect(!text.contains("\nround 0 "))
        #expect(text.firstMatch(of: /\d\d:\d\d:\d\d \+ peer-1 joined/) != nil)

        // Sentences lead to the events behind them: a peer's, and words of the launcher's screen.
        func why(_ words: String, _ daemon: String) throws -> String {
            let data = pool.folder.appendingPathComponent(daemon).path
            let run = try DemoTests.atoll(
                ["why"] + words.split(separator: " ").map(String.init) + ["--data", data], in: pool.folder)
            #expect(run.code == 0, "\(run.error)")
            return run.out
        }
        for (words, sentence, kind) in [
            ("connected", "It is connected to ", "connection_made"),
            ("connected to", "It is connected to ", "connection_made"),
            ("works for job", "It works for job ", "job_accepted"), ("knows nodes", "It knows ", "overlay_joined"),
            ("lent", " has lent this machine for ", "speed_measured"),
        ] {
            let told = try why(words, "peer-1")
            #expect(told.contains(sentence) && told.contains("[\(kind)]"), "\(words): \(told)")
        }
        #expect(try why("connections", "peer-1").contains("[connection_made]"))
        #expect(try why("peer_joined", "node/launcher").contains("[peer_joined]"))
        #expect(try why("the loss", "node/launcher").contains("[round_sealed]"))
        let nothing = try why("hippopotamus", "peer-1")
        #expect(
            nothing.contains("Nothing has happened about “hippopotamus”") && nothing.contains("`connections`"),
            "\(nothing)")
    }

    @Test func `fits a narrow and low window, without colour where that is asked for`() throws {
        let pool = try Self.pool(tokens: 40_000_000)
        defer {
            pool.end()
            try? FileManager.default.removeItem(at: pool.folder)
        }
        let launch = try Self.launch(pool, columns: 34, lines: 12, ["--no-color"])
        defer { launch.end() }
        // Of a low window the first lines are there, and the last two.
        #expect(launch.shows("parameters"), "\(launch.text.suffix(2000))")
        for _ in 0..<200 where launch.text.components(separatedBy: "\u{1B}[0J").count < 5 {
            Thread.sleep(forTimeInterval: 0.05)
        }
        launch.end()
        let text = launch.text
        #expect(text.components(separatedBy: "\u{1B}[0J").count >= 5)
        for escape in text.matches(of: /\u{1B}\[[0-9;]*[A-Za-z]/) {
            #expect(escape.output.last == "A" || escape.output.hasSuffix("[0J"))
        }
        let plain = text.replacing(/\r?\u{1B}\[[0-9;]*[A-Za-z]/, with: "")
        for line in plain.components(separatedBy: "\n") { #expect(line.count <= 34, "\(line)") }
        // Never drawn over more lines than there are.
        for up in text.matches(of: /\u{1B}\[([0-9]+)A/) { #expect(Int(up.output.1)! < 12) }
    }

    @Test func `leaves nothing of the picture behind after ^C, and comes back to the job with its plan`() throws {
        let pool = try Self.pool(tokens: 40_000_000)
        defer {
            pool.end()
            try? FileManager.default.removeItem(at: pool.folder)
        }
        let launch = try Self.launch(pool, columns: 100, errors: true)
        #expect(launch.shows("A step takes"), "\(launch.text.suffix(2000))")
        launch.end()
        Thread.sleep(forTimeInterval: 0.2)
        let text = launch.text
        let erased = try #require(text.ranges(of: "\u{1B}[0J").last)
        let said = try #require(text.firstRange(of: "atoll: stopped at round"), "\(text.suffix(2000))")
        #expect(erased.upperBound <= said.lowerBound, "what is said last is erased: \(text.suffix(2000))")
        #expect(!text[erased.upperBound...].contains("Next: "))

        let again = try Self.launch(pool, columns: 100, ["--resume"])
        defer { again.end() }
        // Such fast rounds may be planned anew meanwhile, and cut otherwise: then it says so in the place of “The plan”.
        #expect(again.shows(#/(The plan|Plan \d+): \d pipelines? of \d stage/#), "\(again.text.suffix(3000))")
    }

    @Test func `is JSON from the first byte where that is asked for`() throws {
        let pool = try Self.pool(tokens: 8192)
        defer {
            pool.end()
            try? FileManager.default.removeItem(at: pool.folder)
        }
        let launch = try Self.launch(pool, columns: 80, ["--json"])
        launch.process.waitUntilExit()
        Thread.sleep(forTimeInterval: 0.2)
        let text = launch.text
        #expect(launch.process.terminationStatus == 0 && text.first == "{")
        let report = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        #expect(report?["name"] as? String == "village")
    }
}
