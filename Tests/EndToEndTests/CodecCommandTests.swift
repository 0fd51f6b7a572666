import Foundation
import Testing

/// `atoll codec` as a person would run it: files in, files out, exit codes, JSON.
struct CodecCommandTests {
    /// Two tensors of a slowly varying pattern.
    static func input(in folder: URL) throws -> String {
        let header =
            #"{"a":{"dtype":"F32","shape":[64,96],"data_offsets":[0,24576]},"#
            + #""b":{"dtype":"F32","shape":[100],"data_offsets":[24576,24976]}}"#
        var data = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) } + Data(header.utf8)
        for index in 0..<6244 {
            let value = Float(index * 37 % 1009 - 504) / 512
            withUnsafeBytes(of: value.bitPattern.littleEndian) { data.append(contentsOf: $0) }
        }
        let path = folder.appendingPathComponent("in.safetensors").path
        try data.write(to: URL(fileURLWithPath: path))
        return path
    }

    @Test func `encode, decode and compare do what they say`() throws {
        let folder = try DemoTests.makeFolder()
        let input = try Self.input(in: folder), out = folder.appendingPathComponent("out").path
        let state = folder.appendingPathComponent("state").path, back = folder.appendingPathComponent("back").path
        let schemes = [
            "sparse:k=64,values=sign-magnitude", "sparse:k=64,values=sign", "sparse:k=64,values=2-bit", "lowrank:r=2",
            "int8", "fp32",
        ]
        for scheme in schemes {
            try? FileManager.default.removeItem(atPath: state)
            for _ in 0..<2 {
                let run = try DemoTests.atoll(
                    ["codec", "encode", input, out, "--scheme", scheme, "--state", state, "--json"], in: folder)
                #expect(run.code == 0, "\(run.error)")
                let object = try #require(
                    try JSONSerialization.jsonObject(with: Data(run.out.utf8)) as? [String: Any])
                #expect(object["values"] as? Int == 6244 && object["tensors"] as? Int == 2)
                let size = try FileManager.default.attributesOfItem(atPath: out)[.size] as? Int
                #expect(object["file_bytes"] as? Int == size)
            }
            #expect(try DemoTests.atoll(["codec", "decode", out, back], in: folder).code == 0)
        }
        #expect(try Data(contentsOf: URL(fileURLWithPath: back)).count > 24_976)
        let chart = try DemoTests.atoll(["codec", "compare", input], in: folder)
        #expect(chart.code == 0 && chart.out.contains("bits a parameter") && chart.out.contains("lowrank:r=2"))
        let list = try DemoTests.atoll(["codec", "compare", input, "--json", "--scheme", "int4"], in: folder)
        let array = try JSONSerialization.jsonObject(with: Data(list.out.utf8)) as? [[String: Any]]
        #expect(array?.count == 1)
    }

    @Test func `wrong input is exit code 2, a place that cannot be written 1, and nothing is replaced`() throws {
        let folder = try DemoTests.makeFolder()
        let input = try Self.input(in: folder), out = folder.appendingPathComponent("out").path
        let wrong: [([String], Int32, String)] = [
            (["encode", input, out, "--scheme", "sparse:k=0"], 2, "K from 1 to 1024"),
            (["encode", out, out + "2"], 2, "check the path and its permissions"),
            (["encode", input, input], 2, "named twice"),
            (["encode", input, out, "--state", input], 2, "named twice"),
            (["decode", input, out], 2, "atollcdc"),
            (["compare", "/dev/null"], 2, "/dev/null"),
            (["encode", input, "/nowhere/at/all"], 1, "nothing was replaced"),
            (["bench", "--megabytes", "0"], 2, "--megabytes"),
        ]
        for (arguments, code, text) in wrong {
            let run = try DemoTests.atoll(["codec"] + arguments, in: folder)
            #expect(run.code == code && run.error.contains(text), "\(arguments): \(run.code) \(run.error)")
        }
        #expect(!FileManager.default.fileExists(atPath: out))
    }
}
