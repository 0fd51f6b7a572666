import ArgumentParser
import Weights
import Foundation
import Node
import Training

/// `atoll generate`: continues a text with a checkpoint.
struct GenerateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate", abstract: "Continue a text with a trained checkpoint.")

    @Argument(help: "A checkpoint's folder.") var checkpoint: String
    @Option(help: "The text to continue.") var prompt = "In the beginning"
    @Option(help: "How many bytes to add.") var count = 300
    @Option(help: "0 takes the likeliest byte each time; higher is more daring.") var temperature = 0.8
    @Option(help: "Seed of the draws.") var seed: UInt64 = 1
    @Option(help: "Threads.") var threads = 1
    @Flag(help: "Print one JSON object.") var json = false

    func run() throws {
        guard count > 0, count <= 1_000_000 else { throw NodeError.badInput("--count \(count): 1 to 1 000 000") }
        guard temperature >= 0, temperature.isFinite else {
            throw NodeError.badInput("--temperature \(temperature): at least 0")
        }
        guard !prompt.isEmpty else { throw NodeError.badInput("--prompt is empty; give at least one character") }
        let parameters = try open(checkpoint)
        if !json { print(prompt, terminator: "") }
        var pending: [UInt8] = []
        let asJSON = json
        let bytes = try generate(
            parameters, prompt: Array(prompt.utf8), count: count, temperature: temperature, seed: seed, threads: threads
        ) { byte in
            guard !asJSON else { return true }
            // Whole characters only: a byte of a longer one waits for the rest.
            pending.append(byte)
            if let text = String(validating: pending, as: UTF8.self)
                ?? (pending.count >= 4 ? String(decoding: pending, as: UTF8.self) : nil)
            {
                print(text, terminator: "")
                fflush(nil)
                pending = []
            }
            return true
        }
        if json {
            let object = ["prompt": prompt, "text": String(decoding: bytes, as: UTF8.self)]
            let data = try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .prettyPrinted])
            print(String(decoding: data, as: UTF8.self))
        } else {
            print("")
        }
    }

    private func open(_ path: String) throws -> ModelParameters {
        do throws(CheckpointError) {
            return try Checkpoint.read(from: path)
        } catch {
            throw NodeError.badInput(error.description)
        }
    }
}
