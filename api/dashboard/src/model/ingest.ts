// Messages by source, and devices that the plant model does not name. Pure.
import type { PlantModel, RejectedMessage, SourceCounts } from "../api/shapes";

export const addsUp = (item: SourceCounts): boolean => item.received === item.applied + item.duplicate + item.late + item.rejected + item.in_flight;

/** Messages a second of each source between two looks; a node that began anew counts from nothing. */
export const rates = (before: readonly SourceCounts[], now: readonly SourceCounts[], seconds: number): Record<string, number> =>
  Object.fromEntries(
    now.map((item) => {
      const was = before.find((other) => other.source === item.source && other.since === item.since)?.received ?? 0;
      return [item.source, seconds > 0 ? Math.max(0, item.received - was) / seconds : 0];
    }),
  );

export type UnknownDevice = { id: string; messages: number; twin?: string };

const sensorOf = (item: RejectedMessage): string | null => {
  if (!item.code.endsWith("sensor_unknown")) return null;
  try {
    const payload = JSON.parse(item.payload ?? "") as { sensor_id?: unknown; deviceInfo?: { devEui?: unknown } };
    const id = payload.sensor_id ?? payload.deviceInfo?.devEui;
    if (typeof id === "string" && id !== "") return id;
  } catch {
    // The topic may say it.
  }
  return /readings\/([^/]+)$/.exec(item.topic)?.[1] ?? null;
};

/** Devices whose messages are kept aside, and those that were given a twin of their own because nobody named them. */
export const unknownDevices = (rejected: readonly RejectedMessage[], addresses: readonly string[], model: PlantModel | undefined): UnknownDevice[] => {
  const found = new Map<string, UnknownDevice>();
  for (const item of rejected) {
    const id = sensorOf(item);
    if (id === null) continue;
    const known = found.get(id) ?? { id, messages: 0 };
    found.set(id, { ...known, messages: known.messages + 1 });
  }
  if (model) {
    const named = new Set([
      ...(model.machines ?? []).map(({ id }) => `machine/${id}`), ...(model.locations ?? []).map(({ id }) => `location/${id}`),
      ...(model.site ? [`location/${model.site.id}`] : []), ...(model.sensors ?? []).map(({ feeds }) => feeds ?? ""),
    ]);
    const sensors = new Set((model.sensors ?? []).map(({ id }) => id));
    for (const address of addresses) {
      const id = address.slice(address.indexOf("/") + 1);
      if (!named.has(address) && !sensors.has(id) && !found.has(id)) found.set(id, { id, messages: 0, twin: address });
    }
  }
  return [...found.values()].sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));
};

/** The plant model with one more sensor, as text that the node reads. */
export const withSensor = (model: PlantModel | undefined, sensor: { id: string; feeds: string; type?: string }): string => {
  const others = (model?.sensors ?? []).filter(({ id }) => id !== sensor.id);
  return JSON.stringify({ ...model, sensors: [...others, sensor] }, null, 2);
};
