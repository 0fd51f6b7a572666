import Foundation
import Primitives
import Testing
import Topologies

/// The committed files of `Corpus`, each small and odd. A name begins with what is wrong: a kind of problem, or `read`.
@Suite struct `The corpus of foreign files` {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Corpus")
    static let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()

    @Test func `is there`() { #expect(Self.names.count >= 30) }

    @Test(arguments: names) func `is read, or refused for the right reason`(name: String) throws {
        let bytes = Array(try Data(contentsOf: Self.folder.appendingPathComponent(name)))
        var found = "read"
        do throws(TopologyError) {
            let imported = try ImportedTopology(reading: bytes, file: name)
            #expect(imported.topology.firstMissingLink() == nil)
        } catch {
            found = error.kind.rawValue
            #expect(!error.allowed.isEmpty && error.description.utf8.count < 600)
        }
        #expect(String(name.prefix { $0 != "-" }) == found)
    }

    /// As any other format, with bytes changed: an answer or a typed error, never a trap.
    @Test(arguments: names) func `never makes a reader crash`(name: String) throws {
        let bytes = Array(try Data(contentsOf: Self.folder.appendingPathComponent(name)).prefix(1500))
        var random = SeededGenerator(seed: 7, stream: UInt64(name.utf8.reduce(0) { $0 &* 31 &+ Int($1) } & 0xFFFF))
        var options = ImportOptions()
        options.mostPeers = 8
        for round in 0..<60 {
            var changed = bytes
            for _ in 0..<(round == 0 ? 0 : 1 + random.below(3)) where !changed.isEmpty {
                let at = random.below(changed.count)
                switch random.below(3) {
                case 0: changed[at] = UInt8(random.below(256))
                case 1: changed.remove(at: at)
                default: changed.insert(contentsOf: changed[at..<min(changed.count, at + random.below(30))], at: at)
                }
            }
            options.disconnected = [.refuse, .largestPart, .assume(0.01)][round % 3]
            for format in TopologyFormat.allCases where round == 0 || format == TopologyFormat.detect(changed) {
                if let read = try? ImportedTopology(reading: changed, file: "f", format: format, options: options) {
                    #expect(read.topology.firstMissingLink() == nil)
                }
            }
        }
    }
}
