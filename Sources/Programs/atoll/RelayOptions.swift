import ArgumentParser
import Node
import Paths
import Primitives

/// What an owner lets this daemon carry for peers that cannot be dialled.
struct RelayOptions: ParsableArguments {
    @Option(help: "Mbit/s to carry for peers that cannot be dialled, all together; 0 for none.") var relayUp: Double?
    @Option(help: "GB a day to carry for them.") var relayDaily: Double?

    /// - Parameter usual: where the owner says nothing.
    func limits(usual: RelayLimits) throws -> RelayLimits {
        if relayUp == nil, relayDaily == nil { return usual }
        let up = relayUp ?? usual.rate.bitsPerSecond / 1e6
        guard up >= 0, up <= 1e5 else { throw NodeError.badInput("--relay-up \(up): from 0 to 100000 Mbit/s") }
        let daily = relayDaily ?? max(Double(usual.daily.bytes), up * 1e6 / 8 * 86_400 / 4) / 1e9
        guard daily >= 0, daily <= 1e6 else { throw NodeError.badInput("--relay-daily \(daily): from 0 to 1000000 GB") }
        return RelayLimits(rate: .megabits(up), daily: ByteCount(Int(daily * 1e9)))
    }
}
