import Foundation
import Testing

/// A process that is ended with the test, with what it has printed so far.
final class Running {
    let process = Process()
    let name: String
    private let file: URL

    /// - Parameters:
    ///   - variables: of the environment. `LOG_TO_JOURNAL` says that what it prints goes to systemd's journal.
    ///   - files: so many may be open.
    init(
        _ arguments: [String], _ folder: URL, _ name: String, _ variables: [String: String] = [:], files: Int? = nil
    ) throws {
        self.name = name
        file = folder.appendingPathComponent("\(name).log")
        _ = FileManager.default.createFile(atPath: file.path, contents: nil)
        process.executableURL = DemoTests.program
        process.arguments = arguments
        if let files {
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = ["-c", "ulimit -n \(files); exec \"$0\" \"$@\"", DemoTests.program.path] + arguments
        }
        var environment = ProcessInfo.processInfo.environment
        environment["ATOLL_HOME"] = folder.appendingPathComponent("home").path
        // Its processes compete with a whole test run for the processor, on whatever machine that is.
        for (key, value) in ["PRIORITY": "normal", "ON_BATTERY": "work", "METERED": "work"] {
            environment["ATOLL_LIMIT_" + key] = value
        }
        environment["ATOLL_PARENT"] = "\(getpid())"
        for (key, value) in variables { environment[key] = value }
        var place = stat()
        if variables["LOG_TO_JOURNAL"] != nil, stat(file.path, &place) == 0 {
            environment["JOURNAL_STREAM"] = "\(place.st_dev):\(place.st_ino)"
        }
        process.environment = environment
        process.standardOutput = try FileHandle(forWritingTo: file)
        process.standardError = process.standardOutput
        process.standardInput = FileHandle.nullDevice
        try process.run()
    }
    var text: String { (try? String(contentsOf: file, encoding: .utf8)) ?? "" }
    /// Waits until it has printed something: so long as a slow machine needs, and no longer than it takes.
    func prints(_ words: String, seconds: Double = 180) -> Bool {
        for _ in 0..<Int(seconds * 20) {
            if text.contains(words) { return true }
            guard process.isRunning else { return text.contains(words) }
            Thread.sleep(forTimeInterval: 0.05)
        }
        return false
    }
    func end(_ signal: Int32) {
        guard process.isRunning else { return }
        kill(process.processIdentifier, signal)
        process.waitUntilExit()
    }
}

/// A pool on loopback in a folder of its own: a node, peers, and launchers of jobs.
final class RunningPool {
    let folder: URL
    let node: Running
    private(set) var peers: [Running] = []

    init(_ folder: URL, peers count: Int) throws {
        self.folder = folder
        let path = { folder.appendingPathComponent($0).path }
        node = try Running(
            ["node", "--listen", "127.0.0.1:0", "--pool", "reef", "--data", path("node")], folder, "node")
        try #require(node.prints("invite"))
        for number in 1...count {
            let name = "peer-\(number)"
            let arguments = ["--listen", "127.0.0.1:0", "--data", path(name), "--name", name, "--json"]
            peers.append(try Running(["peer", "--invite", path("node/invite.yaml")] + arguments, folder, name))
        }
    }
    /// - Parameters:
    ///   - job: the job's file.
    ///   - out: a folder within the pool's.
    func launch(_ job: String, _ out: String, _ more: [String] = []) throws -> Running {
        let path = { [folder] in folder.appendingPathComponent($0).path }
        let arguments = [
            "launch", job, "--invite", path("node/invite.yaml"), "--listen", "127.0.0.1:0", "--out", path(out),
            "--peers",
            "\(peers.count)", "--events",
        ]
        return try Running(arguments + more, folder, out + more.joined())
    }
    func report(_ out: String) throws -> [String: Any] {
        let data = try Data(contentsOf: folder.appendingPathComponent(out).appendingPathComponent("report.json"))
        return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    }
    func end() { for process in peers + [node] { process.end(SIGKILL) } }
    deinit { end() }
}
