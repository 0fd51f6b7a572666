import Foundation
import Testing

/// `Tools/sweep`: an experiment given to job engines. Each script is run against a stand-in for its engine, which does tasks on
/// this machine, and against the engine itself where that is installed.
struct SweepEngineTests {
    /// `sbatch`: what is wrapped, once for each task of the array.
    private static let sbatch = """
        #!/bin/sh
        # All tasks at once, as an array on many nodes.
        while [ $# -gt 0 ]; do
          case $1 in
            --array=1-*) count=${1#--array=1-} ;;
            --wrap) shift; command=$1 ;;
          esac
          shift
        done
        tasks=
        for task in $(seq 1 "$count"); do SLURM_ARRAY_TASK_ID=$task sh -c "$command" & tasks="$tasks $!"; done
        for task in $tasks; do wait "$task" || exit 1; done
        """
    /// The module `ray`: remote functions are called at once.
    private static let ray = """
        class _Remote:
            def __init__(self, function):
                self.remote = function

        def init(**_): pass
        def shutdown(): pass
        def remote(**_): return _Remote
        def get(values): return list(values)
        """
    private static let tools = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../Tools/sweep").standardizedFileURL

    private static func run(_ words: [String], at folder: URL, _ more: [String: String]) throws -> (Int32, String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        process.currentDirectoryURL = folder
        var environment = ProcessInfo.processInfo.environment
        environment["ATOLL_HOME"] = folder.appendingPathComponent("home").path
        let path = environment["PATH"] ?? "/usr/bin:/bin"
        environment["PATH"] = "\(DemoTests.program.deletingLastPathComponent().path):\(path)"
        for (key, value) in more { environment[key] = key == "PATH" ? "\(value):\(environment["PATH"] ?? "")" : value }
        process.environment = environment
        let said = folder.appendingPathComponent("said-\(UUID().uuidString)")
        _ = FileManager.default.createFile(atPath: said.path, contents: nil)
        process.standardOutput = try FileHandle(forWritingTo: said)
        process.standardError = process.standardOutput
        process.standardInput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return (process.terminationStatus, try String(contentsOf: said, encoding: .utf8))
    }

    @Test func `an array of Slurm's and tasks of Ray's come to the same table as one process`() throws {
        let spec = "  what_if: [none, latency=x20]"
        let folder = try SweepCommandTests.folder(SweepCommandTests.spec("plan", spec))
        defer { try? FileManager.default.removeItem(at: folder) }
        let one = try DemoTests.atoll(["sweep", "work/specs/e.yaml", "--out", "one"], in: folder, at: folder)
        #expect(one.code == 0 && one.out.contains("4 points: 4 computed"), "\(one.error)")
        let table = try SweepCommandTests.text(folder, "one/results.csv")
        for (path, text) in [("bin/sbatch", Self.sbatch), ("lib/ray.py", Self.ray)] {
            let file = folder.appendingPathComponent(path)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: file.path)
        }
        let slurm = [Self.tools.appendingPathComponent("slurm.sh").path, "work/specs/e.yaml"]
        let ray = ["python3", Self.tools.appendingPathComponent("ray_sweep.py").path, "work/specs/e.yaml"]
        var ways = [("slurm", slurm, ["PATH": folder.appendingPathComponent("bin").path])]
        if try Self.run(["python3", "-c", ""], at: folder, [:]).0 == 0 {
            ways.append(("ray", ray, ["PYTHONPATH": folder.appendingPathComponent("lib").path]))
        }
        if try Self.run(["sinfo", "-h", "-t", "idle"], at: folder, [:]).0 == 0 {
            ways.append(("slurm-itself", slurm, [:]))
        }
        if try Self.run(["python3", "-c", "import ray"], at: folder, [:]).0 == 0 {
            ways.append(("ray-itself", ray, [:]))
        }
        for (name, words, environment) in ways {
            let run = try Self.run(words + [name], at: folder, environment)
            #expect(run.0 == 0, "\(name): \(run.1)")
            #expect(try SweepCommandTests.text(folder, "\(name)/results.csv") == table, "\(name)")
        }
        print("sweep by \(ways.map(\.0).joined(separator: ", ")); engines that are not installed are left out")
    }
}
