import Foundation

/// A process that is ended with the test, with what it has printed so far.
final class Running {
    let process = Process()
    private let file: URL
    init(_ arguments: [String], _ folder: URL, _ name: String) throws {
        file = folder.appendingPathComponent("\(name).log")
        _ = FileManager.default.createFile(atPath: file.path, contents: nil)
        process.executableURL = DemoTests.program
        process.arguments = arguments
        var environment = ProcessInfo.processInfo.environment
        environment["ATOLL_HOME"] = folder.appendingPathComponent("home").path
        environment["ATOLL_PARENT"] = "\(getpid())"
        process.environment = environment
        process.standardOutput = try FileHandle(forWritingTo: file)
        process.standardError = process.standardOutput
        process.standardInput = FileHandle.nullDevice
        try process.run()
    }
    var text: String { (try? String(contentsOf: file, encoding: .utf8)) ?? "" }
    /// Waits until it has printed something.
    func prints(_ words: String, seconds: Double = 60) -> Bool {
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
