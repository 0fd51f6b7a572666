import ArgumentParser
import Benchmarks
import Exchange
import Foundation
import Node
import Primitives
import Weights

/// `atoll codec`: the exchange's codecs on files.
struct CodecCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "codec", abstract: "Compress gradients in .safetensors files as the exchange does.",
        subcommands: [EncodeCommand.self, DecodeCommand.self, CompareCommand.self, CodecBenchCommand.self])

    struct EncodeCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "encode", abstract: "Encode every tensor of a file; print bytes, bits, error and speed.")
        @Argument(help: "A .safetensors file of F32, F16 or BF16 tensors.") var input: String
        @Argument(help: "The encoded file.") var output: String
        @Option(help: "fp32, bf16, fp16, int8, int4, sparse:k=64[,values=sign|sign-magnitude|2-bit] or lowrank:r=4.")
        var scheme = "sparse:k=64"
        @Option(help: "Error feedback, read and written back; made where there is none.") var state: String?
        @Flag(help: "Print one JSON object.") var json = false

        func run() throws {
            let codec = try scheme.asCodec()
            try distinct([input, output] + (state.map { [$0] } ?? []))
            Interrupt.watch()
            let figures = try files {
                () throws(TensorFileError) in
                try CodecRun.encode(
                    input, to: output, scheme: codec, state: state, seconds: threadSeconds,
                    interrupted: { Interrupt.asked })
            }
            if json { print(jsonText(figures.object)) } else { print(figures.text) }
        }
    }

    struct DecodeCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "decode", abstract: "Decode a file to .safetensors, in F32.")
        @Argument(help: "A file that encode wrote.") var input: String
        @Argument(help: "The .safetensors file.") var output: String
        @Flag(help: "Print one JSON object.") var json = false

        func run() throws {
            try distinct([input, output])
            Interrupt.watch()
            let figures = try files {
                () throws(TensorFileError) in
                try CodecRun.decode(input, to: output, seconds: threadSeconds, interrupted: { Interrupt.asked })
            }
            if json {
                print(
                    jsonText([
                        "scheme": figures.scheme.description, "tensors": figures.tensors, "values": figures.values,
                        "payload_bytes": figures.payloadBytes, "decode_gigabytes_per_second": figures.decodeSpeed,
                    ]))
            } else {
                print(
                    "\(figures.scheme): \(figures.values) values in \(figures.tensors) tensors from "
                        + "\(figures.payloadBytes) bytes, \(figures.decodeSpeed.shown(2)) GB/s")
            }
        }
    }

    struct CompareCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "compare", abstract: "Draw bytes against error for every scheme.")
        @Argument(help: "A .safetensors file of F32, F16 or BF16 tensors.") var input: String
        @Option(help: "A scheme to compare, instead of the usual ones; may be repeated.") var scheme: [String] = []
        @Flag(help: "Print one JSON array.") var json = false

        static let usual =
            ["fp32", "bf16", "fp16", "int8", "int4"]
            + [256, 128, 64, 32].flatMap { k in
                SparseValues.allCases.map { "sparse:k=\(k),values=\($0.rawValue)" }
            } + ["lowrank:r=8", "lowrank:r=2"]

        func run() throws {
            let codecs = try (scheme.isEmpty ? Self.usual : scheme).map { try $0.asCodec() }
            Interrupt.watch()
            let all = try files {
                () throws(TensorFileError) in
                try CodecRun.compare(
                    input, schemes: codecs, seconds: threadSeconds, interrupted: { Interrupt.asked })
            }
            if json {
                print(jsonText(all.map(\.object)))
            } else {
                for line in ErrorChart(all).lines { print(line) }
            }
        }
    }

    struct CodecBenchCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "bench", abstract: "Time the codecs against memcpy, on one core.")
        @Option(help: "Size of the tensor; larger than the caches for the goals.") var megabytes = 256
        @Option(help: "Entries of 4096 that the sparse codec keeps.") var k = 64
        @Option(help: "Messages in a mean.") var contributors = 8
        @Option(help: "Repetitions; the least time counts.") var repetitions = 5
        @Flag(help: "Print one JSON object.") var json = false

        func run() throws {
            guard (1...1 << 14).contains(megabytes), (1...1024).contains(k), (1...64).contains(contributors),
                (1...1000).contains(repetitions)
            else {
                throw NodeError.badInput(
                    "--megabytes is 1 to 16384, --k 1 to 1024, --contributors 1 to 64, --repetitions 1 to 1000")
            }
            let rows = ExchangeBenchmark.run(
                count: megabytes << 18, k: k, contributors: contributors, repetitions: repetitions,
                seconds: threadSeconds)
            let set = "\(ExchangeBenchmark.InstructionSet.best)"
            if json {
                let list = rows.map { row in
                    [
                        "name": row.name, "gigabytes_per_second": row.bytesPerSecond / 1e9,
                        "ratio_to_memcpy": row.ratioToMemcpy, "bits_per_value": orNull(row.bitsPerValue),
                        "limit_ratio": orNull(row.limitRatio), "goal": orNull(row.goal),
                        "anchor": orNull(row.anchor),
                    ] as [String: Any]
                }
                print(jsonText(["megabytes": megabytes, "instruction_set": set, "rows": list]))
                return
            }
            print("\(megabytes) MB of fp32, one core, \(set); speed in bytes of fp32, anchors from PyTorch and others")
            for row in rows {
                var line = row.name.padding(toLength: 38, withPad: " ", startingAt: 0)
                line += String(format: "%7.2f GB/s %6.2f x memcpy", row.bytesPerSecond / 1e9, row.ratioToMemcpy)
                if let goal = row.goal { line += ", goal \(goal.shown(2))" }
                if let anchor = row.anchor { line += ", \(anchor)" }
                if let bits = row.bitsPerValue { line += ", \(bits.shown(4)) bits a value" }
                if let limit = row.limitRatio { line += " = \(limit.shown(3)) x the entropy limit" }
                print(line)
            }
        }
    }
}

/// This thread's processor time, because the machine may be shared.
func threadSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

extension String {
    fileprivate func asCodec() throws -> Codec {
        guard let codec = Codec(self) else { throw NodeError.badInput(Codec.problem(self)) }
        return codec
    }
}

/// Files that would be read and replaced at once are refused.
private func distinct(_ paths: [String]) throws {
    let full = paths.map { URL(fileURLWithPath: $0).standardizedFileURL.resolvingSymlinksInPath().path }
    for (index, path) in full.enumerated() where full[..<index].contains(path) {
        throw NodeError.badInput("\(paths[index]) is named twice; give each file a name of its own")
    }
}

private func files<Result>(_ body: () throws(TensorFileError) -> Result) throws -> Result {
    do throws(TensorFileError) {
        return try body()
    } catch {
        switch error {
        case .unwritable: throw NodeError.failed(error.description)
        case .interrupted:
            complain(error.description)
            throw ExitCode(130)
        default: throw NodeError.badInput(error.description)
        }
    }
}

func jsonText(_ object: Any) -> String {
    let options: JSONSerialization.WritingOptions = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return (try? JSONSerialization.data(withJSONObject: object, options: options)).map {
        String(decoding: $0, as: UTF8.self)
    } ?? "{}"
}

private func orNull(_ value: (some Any)?) -> Any { value ?? NSNull() }

extension Double {
    fileprivate func shown(_ digits: Int) -> String { String(format: "%.\(digits)f", self) }
}

extension CodecRun.Figures {
    fileprivate var decodeSpeed: Double { decodeBytesPerSecond / 1e9 }

    /// docs/REPORT.md, “Codec figures”.
    fileprivate var object: [String: Any] {
        [
            "scheme": scheme.description, "tensors": tensors, "values": values, "payload_bytes": payloadBytes,
            "file_bytes": orNull(fileBytes), "bits_per_parameter": bitsPerValue, "relative_error": relativeError,
            "entropy_limit_bits": orNull(limitBits), "entropy_limit_ratio": orNull(limitRatio),
            "encode_gigabytes_per_second": encodeBytesPerSecond / 1e9, "decode_gigabytes_per_second": decodeSpeed,
        ]
    }

    fileprivate var text: String {
        var lines = [
            "\(scheme): \(values) values in \(tensors) tensors, \(payloadBytes) bytes"
                + (fileBytes.map { ", \($0) with header and digest" } ?? ""),
            "\(bitsPerValue.shown(4)) bits a parameter, 1 : \((32 / max(1e-9, bitsPerValue)).shown(1)) of fp32"
                + (limitRatio.map { ", \($0.shown(3)) x the entropy limit" } ?? ""),
            "relative error \(relativeError.shown(5)) of what was to be sent",
        ]
        lines.append(
            "encode \((encodeBytesPerSecond / 1e9).shown(2)) GB/s, decode \(decodeSpeed.shown(2)) GB/s of fp32")
        return lines.joined(separator: "\n")
    }
}

/// Bits a parameter (logarithmic, to the right) against relative error (upwards), and a table of the same.
private struct ErrorChart {
    private static let width = 64
    private static let height = 16
    let lines: [String]

    init(_ all: [CodecRun.Figures]) {
        let (width, height) = (Self.width, Self.height)
        let marks = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
        let bits = all.map { log2(max(1e-3, $0.bitsPerValue)) }
        let least = floor(bits.min() ?? 0), most = max(least + 1, ceil(bits.max() ?? 5))
        let top = max(1e-9, all.map(\.relativeError).max() ?? 1)
        var grid = [[Character]](repeating: [Character](repeating: " ", count: width), count: height)
        for (index, figures) in all.enumerated() {
            let x = Int((bits[index] - least) / (most - least) * Double(width - 1) + 0.5)
            let y = Int((1 - figures.relativeError / top) * Double(height - 1) + 0.5)
            var at = min(width - 1, x)
            while at < width - 1, grid[y][at] != " " { at += 1 }
            grid[y][at] = marks[index % marks.count]
        }
        var lines = ["relative error"]
        for (y, row) in grid.enumerated() {
            let label = y % 5 == 0 ? (top * (1 - Double(y) / Double(height - 1))).shown(3) : "     "
            lines.append("\(label) │" + String(row))
        }
        lines.append("      └" + String(repeating: "─", count: width))
        let ends = [exp2(least).shown(2), exp2(most).shown(0) + " bits a parameter"]
        let gap = max(1, width - ends[0].count - ends[1].count)
        lines += ["       " + ends[0] + String(repeating: " ", count: gap) + ends[1], ""]
        lines.append("  scheme                            bits      bytes  x limit    error   enc GB/s  dec GB/s")
        for (index, figures) in all.enumerated() {
            let name = "\(figures.scheme)".padding(toLength: 31, withPad: " ", startingAt: 0)
            let limit = (figures.limitRatio?.shown(3) ?? "–").padding(toLength: 7, withPad: " ", startingAt: 0)
            let size = String(format: " %7.4f %10d  ", figures.bitsPerValue, figures.payloadBytes)
            let rest = String(
                format: "  %7.5f   %8.2f  %8.2f", figures.relativeError, figures.encodeBytesPerSecond / 1e9,
                figures.decodeSpeed)
            lines.append("\(marks[index % marks.count]) " + name + size + limit + rest)
        }
        self.lines = lines
    }
}
