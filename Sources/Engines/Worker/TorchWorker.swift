import Compute
import Foundation

/// `Tools/torch-engine`, started with a Python that has PyTorch.
package struct TorchWorker: Sendable {
    /// The interpreter: `ATOLL_PYTHON`, else `python3`.
    package var python: String
    /// The folder that holds the package `atoll_torch`.
    package var folder: String
    /// `auto`, `cpu`, `cuda:0`, `mps`; several that compute together with commas between them, or `all`.
    package var device = "auto"
    /// `fp32` or `bf16`: of matrix products.
    package var precision = "fp32"
    package var threads = 0

    package init(python: String, folder: String) {
        self.python = python
        self.folder = folder
    }

    /// Where the package lies: `ATOLL_TORCH_ENGINE`, beside the program, or in the source tree that it was built in.
    package static func find() throws(Refusal) -> TorchWorker {
        let environment = ProcessInfo.processInfo.environment
        let program = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
            .deletingLastPathComponent()
        var candidates = [environment["ATOLL_TORCH_ENGINE"]].compactMap { $0 }
        candidates.append(program.appendingPathComponent("../share/atoll/torch-engine").path)
        var above = program
        for _ in 0..<5 {
            candidates.append(above.appendingPathComponent("Tools/torch-engine").path)
            above.deleteLastPathComponent()
        }
        candidates.append("Tools/torch-engine")
        for folder in candidates {
            let main = URL(fileURLWithPath: folder).appendingPathComponent("atoll_torch/__main__.py").path
            if FileManager.default.isReadableFile(atPath: main) {
                return TorchWorker(python: environment["ATOLL_PYTHON"] ?? "python3", folder: folder)
            }
        }
        throw Refusal(
            "the PyTorch worker is not there: set ATOLL_TORCH_ENGINE to the folder Tools/torch-engine of the sources")
    }

    package var process: WorkerProcess {
        WorkerProcess(
            program: python,
            arguments: [
                "-m", "atoll_torch", "--fd", "\(WorkerProcess.descriptor)", "--device", device, "--precision",
                precision,
                "--threads", "\(threads)",
            ],
            environment: ["PYTHONPATH": folder, "PYTHONUNBUFFERED": "1"])
    }

    package func engine() -> WorkerEngine {
        let process = process
        return WorkerEngine { () throws(Refusal) in try process.start() }
    }
}
