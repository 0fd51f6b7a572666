import ArgumentParser
import Checkpoints
import Foundation
import JSON
import Node
import Primitives
import Weights

/// `atoll convert`: a model's folder in another type and other files.
struct ConvertCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Write a model's folder again, in another type or in files of another size.",
        discussion: "Weights go through unit by unit; tokenizer, templates and generation files are copied.")

    @Argument(help: "A checkpoint's folder.") var input: String
    @Argument(help: "The folder to write; one of that name is replaced when all is on disk.") var output: String
    @Option(help: "float32, bfloat16 or float16; as it is if not given.") var type: String?
    @Option(help: "Bytes of one file of weights at most.") var fileBytes = ModelWriter.defaultFileSize
    @Flag(help: "Print one JSON object.") var json = false

    func run() throws {
        Interrupt.watch()
        guard fileBytes > 0 else { throw NodeError.badInput("--file-bytes \(fileBytes): at least 1") }
        let given = try type.map { name in
            guard let known = ElementType(torchName: name) else {
                throw NodeError.badInput(
                    "--type \(name): \(ElementType.allCases.map(\.torchName).joined(separator: ", "))")
            }
            return known
        }
        guard URL(fileURLWithPath: input).standardizedFileURL != URL(fileURLWithPath: output).standardizedFileURL else {
            throw NodeError.badInput("input and output are one folder; give another output")
        }
        var interrupted = false
        do throws(CheckpointError) {
            let folder = try ModelFolder(input)
            try folder.verifyCopies()
            let writer = try ModelWriter(
                to: output, folder.configuration, type: given ?? folder.configuration.type ?? .fp32,
                largestFile: fileBytes, carrying: folder)
            for unit in folder.shape.allUnits {
                guard !Interrupt.asked else {
                    interrupted = true
                    break
                }
                let values = try folder.unit(unit)
                try values.withUnsafeBufferPointer { buffer throws(CheckpointError) in try writer.append(buffer) }
            }
            if !interrupted {
                let digest = try writer.finish()
                let object: JSONValue = [
                    "folder": .string(output), "parameters": JSONValue(folder.shape.parameters),
                    "weights": .string(digest.hex),
                ]
                print(
                    json
                        ? object.written()
                        : "\(output): \(folder.shape.parameters) parameters, weights \(digest.hex.prefix(16))…")
            }
        } catch { throw NodeError.badInput(error.description) }
        if interrupted { throw ExitCode(130) }
    }
}
