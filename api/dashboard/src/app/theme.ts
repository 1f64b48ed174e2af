// One look, light and dark. The colours of states are those of Okabe and Ito, which colour-blind readers tell apart;
// each comes with a shape and a word.
import { createTheme } from "@mui/material/styles";

export const theme = createTheme({
  cssVariables: { colorSchemeSelector: "data-scheme" },
  colorSchemes: {
    light: {
      palette: {
        primary: { main: "#0b5d4b" }, secondary: { main: "#274b8f" }, background: { default: "#f3f5f4", paper: "#ffffff" },
        text: { primary: "#15201d", secondary: "#4b5753" }, error: { main: "#a8320a" }, warning: { main: "#8a5600" },
        divider: "#d6dcda", action: { active: "#4b5753" },
      },
    },
    dark: {
      palette: {
        primary: { main: "#6fd3b5" }, secondary: { main: "#9db8f2" }, background: { default: "#101614", paper: "#18201d" },
        text: { primary: "#e7eeeb", secondary: "#a9b6b1" }, error: { main: "#ff9a76" }, warning: { main: "#f3c15d" },
        divider: "#33403b", action: { active: "#a9b6b1" },
      },
    },
  },
  shape: { borderRadius: 8 },
  typography: {
    fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif',
    h1: { fontSize: "1.5rem", fontWeight: 650, letterSpacing: "-0.01em" },
    h2: { fontSize: "1.05rem", fontWeight: 650 },
    h3: { fontSize: "0.95rem", fontWeight: 650 },
    button: { textTransform: "none", fontWeight: 600 },
  },
  components: {
    MuiButton: { defaultProps: { disableElevation: true, size: "small" } },
    MuiPaper: { defaultProps: { variant: "outlined" } },
    MuiTextField: { defaultProps: { size: "small" } },
    MuiSelect: { defaultProps: { size: "small" } },
    MuiTooltip: { defaultProps: { arrow: true, enterDelay: 300 } },
  },
});
