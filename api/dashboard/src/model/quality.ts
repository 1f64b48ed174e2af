// How sensors stand. Pure.
import type { Sensor } from "../api/shapes";
import { byId, isNumber } from "./format";

/** How often a sensor broke its contract. */
export const broken = (sensor: Sensor): number => Object.values(sensor.violations).reduce((sum, count) => sum + count, 0);

/** The worst score first; what has none yet stands last. */
export const worstFirst = (sensors: readonly Sensor[]): Sensor[] =>
  [...sensors].sort((a, b) => {
    const [x, y] = [isNumber(a.score) ? a.score : 2, isNumber(b.score) ? b.score : 2];
    return x - y || broken(b) - broken(a) || byId(a.sensor, b.sensor);
  });
