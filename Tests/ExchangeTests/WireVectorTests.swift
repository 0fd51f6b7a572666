import Exchange
import Foundation
import Primitives
import Testing

/// The examples of docs/WIRE.md are what the encoder writes.
struct WireVectorTests {
    static let inputs: [String: [Float]] = [
        "a": [0.5, -1.25, 3, -0.015625, 100],
        "b": (0..<128).map { Float(37 * $0 % 128 - 63) / 64 },
        "c": (0..<4100).map { Float(1021 * $0 % 4099 - 2000) / 1024 },
        "d": (0..<12288).map { Float(1021 * $0 % 4099 - 2000) / 1024 * [1, 0.0625, 0][$0 / 4096] },
    ]
    /// [6, 5]; only of the low-rank codec.
    static let matrix = (0..<30).map { Float(7 * $0 % 11 - 5) / 4 }
    static let cases: [(codec: String, input: String)] =
        ["fp32", "bf16", "fp16", "int8", "int4"].map { ($0, "a") } + [
            ("int8", "b"), ("int8", "b2"), ("int4", "b"), ("int4", "b2"), ("sparse:k=64", "a"),
            ("sparse:k=64", "b"), ("sparse:k=64", "b2"), ("sparse:k=4", "c"), ("sparse:k=32", "c"), ("sparse:k=8", "d"),
            ("sparse:k=64,values=sign", "a"), ("sparse:k=64,values=sign", "b"), ("sparse:k=4,values=sign", "c"),
            ("sparse:k=8,values=sign", "d"), ("sparse:k=64,values=2-bit", "a"), ("sparse:k=64,values=2-bit", "b"),
            ("sparse:k=4,values=2-bit", "c"), ("sparse:k=8,values=2-bit", "d"), ("lowrank:r=1", "e"),
        ]

    static func line(_ text: String, _ input: String) -> String {
        let codec = Codec(text)!
        var bytes: [UInt8]
        if input == "b2" {
            var feedback = [Float](repeating: 0, count: 128)
            _ = codec.encode(inputs["b"]!, feedback: &feedback)
            bytes = codec.encode(inputs["b"]!, feedback: &feedback)
        } else if input == "e" {
            bytes = matrix.withUnsafeBufferPointer { codec.encode($0, shape: [6, 5]) }
        } else {
            bytes = codec.encode(inputs[input]!)
        }
        let hexadecimal = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        return "\(text) \(input) \(hexadecimal)"
    }

    @Test func `the document's vectors are the encoder's`() throws {
        let path = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../docs/WIRE.md")
        let lines = try String(contentsOf: path, encoding: .utf8).split(separator: "\n")
        let expected = Self.cases.map { Self.line($0.codec, $0.input) }
        let found = lines.filter { line in Self.cases.contains { line.hasPrefix("\($0.codec) \($0.input) ") } }
        #expect(found.map(String.init) == expected, "should be:\n\(expected.joined(separator: "\n"))")
    }
}
